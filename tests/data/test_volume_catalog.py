"""dataset.json: what it registers, and what is said about mistakes in it."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from unet_sharp_det.data.folders import register_folders
from unet_sharp_det.data.volume_catalog import register_volumes
from unet_sharp_det.errors import DatasetError

NAME = "volumes_for_tests"


def content():
    case = {"id": "7", "patient": "p7", "image": ["a.nii", "sub/b.nii"], "label": "c.nii"}
    unlabelled = {"id": "8", "image": ["a.nii", "a.nii"]}
    return {
        "name": "mine",
        "modality": ["t1", "t2"],
        "labels": {"0": "background", "2": "tumour"},
        **{"train": [case], "val": [unlabelled], "test": []},
    }


@pytest.fixture
def load(tmp_path):
    """A function (content) that writes it beside its volumes, and loads the split train."""
    (tmp_path / "sub").mkdir()
    for name in ("a.nii", "sub/b.nii", "c.nii"):
        (tmp_path / name).touch()

    def run(content, split="train"):
        (tmp_path / "dataset.json").write_text(json.dumps(content))
        register_volumes(NAME, tmp_path / "dataset.json")
        return DatasetCatalog.get(f"{NAME}_{split}")

    return run


def test_records_and_metadata(load, tmp_path):
    (record,) = load(content())
    assert record == {
        "image_id": "7",
        "file_name": str(tmp_path / "a.nii"),
        "volume_files": [str(tmp_path / "a.nii"), str(tmp_path / "sub" / "b.nii")],
        "label_file": str(tmp_path / "c.nii"),
    }
    metadata = MetadataCatalog.get(f"{NAME}_train")
    assert metadata.evaluator_type == "volume"
    assert metadata.stuff_classes == ["background", "1", "tumour"]
    assert metadata.json_file == str(tmp_path / "dataset.json")
    assert "label_file" not in load(content(), "val")[0]
    with pytest.raises(DatasetError, match="dataset.json: 'test' has no case. Move some there"):
        load(content(), "test")


def broken(**changes):
    return {**content(), **changes}


def case(**changes):
    return broken(train=[{**content()["train"][0], **changes}])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (case(id="../../7"), "could be no file's name"),
        (case(id=""), "could be no file's name"),
        (broken(val=content()["train"]), "the id '7' is there twice"),
        (broken(labels={"background": 0}), "'labels' must be as"),
        (broken(labels={"1": "liver"}), "'labels' must be as"),
        (broken(labels=["background"]), "'labels' must be as"),
        (broken(val=None), "'val' is no list of cases"),
        (broken(modality={"0": "CT"}), "'modality' is no list"),
        (case(image=["a.nii"]), "case '7' needs an 'image' list of 2 files"),
        (case(id=7), "the id 7 is there twice, or could be no file's name"),
        (case(image=["a.nii", "../b.nii"]), "could lead out of"),
        (case(label="none.nii"), "there is no .*none.nii of case '7'"),
        (case(patient="8"), "patient '8' is in train and in val"),
    ],
)
def test_mistakes_are_named(load, wrong, message):
    with pytest.raises(DatasetError, match=message):
        load(wrong)


def test_folders_are_known_by_their_names(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    (tmp_path / "my_livers").mkdir()
    (tmp_path / "my_livers" / "dataset.json").write_text("read when it is used")
    register_folders()
    assert "my_livers_val" in DatasetCatalog.list()
    with pytest.raises(DatasetError, match="my_livers/dataset.json: is not JSON"):
        DatasetCatalog.get("my_livers_val")
    with pytest.raises(DatasetError, match="There is no file .*brats19/dataset.json. Write it by"):
        DatasetCatalog.get("brats19_train")
