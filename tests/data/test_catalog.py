"""Registration, and what is checked when a data set is loaded."""

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

import unet_sharp_det.data.catalog
from unet_sharp_det.data import register_coco_nuclei, register_dsb2018
from unet_sharp_det.data.catalog import check_registered, median_diameter
from unet_sharp_det.data.label_maps import read_label_map
from unet_sharp_det.errors import DatasetError

NAME = "nuclei_of_a_test"
SPLITS = ["dsb2018_train", "dsb2018_val", "dsb2018_test"]


@pytest.fixture(autouse=True)
def _restored_catalogs():
    yield
    if NAME in DatasetCatalog:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)
    register_dsb2018()


@pytest.fixture
def coco(tmp_path, write_png, rgba):
    """A valid data set of two images, one without nuclei, to be spoilt by the tests."""
    for name in ("a.png", "b.png"):
        write_png(tmp_path / "images" / name, rgba())
    segmentation = [[2, 2, 8, 2, 8, 6, 2, 6]]
    nucleus = {"category_id": 1, "iscrowd": 0, "bbox": [2, 2, 6, 4], "segmentation": segmentation}
    return {
        "categories": [{"id": 1, "name": "nucleus"}],
        "images": [
            {"id": 1, "file_name": "a.png", "height": 12, "width": 16},
            {"id": 2, "file_name": "b.png", "height": 12, "width": 16},
        ],
        "annotations": [{"id": key, "image_id": 1, "area": 24, **nucleus} for key in (1, 2)],
    }


@pytest.fixture
def load(tmp_path):
    """A function (content, classes, ...) that writes, registers and loads a COCO json file."""

    def run(content, thing_classes=("nucleus",), **options):
        json_file = tmp_path / "nuclei.json"
        json_file.write_text(json.dumps(content))
        register_coco_nuclei(NAME, json_file, tmp_path / "images", thing_classes, **options)
        return DatasetCatalog.get(NAME)

    return run


def test_importing_the_package_registers_dsb2018_at_the_default_root(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    importlib.reload(unet_sharp_det.data.catalog)
    for name in SPLITS:
        assert name in DatasetCatalog.list()
        json_file = tmp_path / "dsb2018" / "annotations" / f"{name}.json"
        assert MetadataCatalog.get(name).json_file == str(json_file)


def test_the_sample_loads(converted_sample):
    register_dsb2018(converted_sample)
    for name, count in (("dsb2018_train", 24), ("dsb2018_val", 8)):
        records = DatasetCatalog.get(name)
        assert len(records) == count
        assert all(record["annotations"][0]["category_id"] == 0 for record in records)
        metadata = MetadataCatalog.get(name)
        assert metadata.thing_classes == ["nucleus"]
        assert metadata.stuff_classes == ["background", "nucleus"]
        assert metadata.ignore_label == 255
        assert metadata.evaluator_type == "coco"
        assert metadata.image_root == str(converted_sample)
        assert metadata.thing_dataset_id_to_contiguous_id == {1: 0}
        areas = [
            each["area"] for each in json.loads(Path(metadata.json_file).read_text())["annotations"]
        ]
        by_masks = 2 * (np.median(areas) / np.pi) ** 0.5
        assert median_diameter(records) == pytest.approx(by_masks, rel=0.1)


def test_registering_again_changes_nothing_and_another_root_replaces(converted_sample, tmp_path):
    register_dsb2018(converted_sample)
    loader, metadata = DatasetCatalog["dsb2018_val"], MetadataCatalog.get("dsb2018_val")
    DatasetCatalog.get("dsb2018_val")
    register_dsb2018(str(converted_sample))
    assert DatasetCatalog["dsb2018_val"] is loader
    assert MetadataCatalog.get("dsb2018_val") is metadata
    register_dsb2018(tmp_path)
    assert MetadataCatalog.get("dsb2018_val").image_root == str(tmp_path)
    with pytest.raises(DatasetError, match="There is no file"):
        DatasetCatalog.get("dsb2018_val")


def test_a_missing_set_says_the_path_the_command_and_the_variable(tmp_path):
    register_dsb2018(tmp_path)
    with pytest.raises(DatasetError) as error:
        DatasetCatalog.get("dsb2018_train")
    message = str(error.value)
    assert str(tmp_path / "annotations" / "dsb2018_train.json") in message
    assert f"python datasets/prepare_dsb2018.py stage1_train.zip --output {tmp_path}" in message
    assert "DETECTRON2_DATASETS" in message


def test_an_unregistered_name_is_told_with_the_nearest_and_how_to_register():
    with pytest.raises(DatasetError, match="DATASETS.TEST: 'dsb2018_vall'.*'dsb2018_val'.*ENV_MOD"):
        check_registered(["dsb2018_train", "dsb2018_vall"], "DATASETS.TEST")


def test_an_empty_split_says_so(converted_sample):
    register_dsb2018(converted_sample)
    with pytest.raises(DatasetError, match="dsb2018_test.*holds no images.*prepare_dsb2018"):
        DatasetCatalog.get("dsb2018_test")


def test_missing_images_are_counted_and_three_named(converted_sample, tmp_path):
    shutil.copytree(converted_sample / "annotations", tmp_path / "annotations")
    register_dsb2018(tmp_path)
    with pytest.raises(DatasetError) as error:
        DatasetCatalog.get("dsb2018_val")
    message = str(error.value)
    assert "8 of 8 images are missing" in message
    assert message.count("images/") == 3
    assert "and 5 more" in message
    assert "prepare_dsb2018.py" in message


def test_a_valid_file_loads_with_its_empty_image(load, coco):
    records = load(coco)
    assert [len(record["annotations"]) for record in records] == [2, 0]


def test_category_ids_may_start_anywhere_and_map_to_0(load, coco):
    coco["categories"] = [{"id": 7, "name": "mitosis"}, {"id": 3, "name": "nucleus"}]
    coco["annotations"][0]["category_id"], coco["annotations"][1]["category_id"] = 7, 3
    records = load(coco, ["nucleus", "mitosis"])
    assert [a["category_id"] for a in records[0]["annotations"]] == [1, 0]


def test_a_json_whose_category_ids_changed_loads_again(load, coco):
    load(coco)
    coco["categories"][0]["id"] = 3
    for annotation in coco["annotations"]:
        annotation["category_id"] = 3
    assert [a["category_id"] for a in load(coco)[0]["annotations"]] == [0, 0]
    assert MetadataCatalog.get(NAME).thing_dataset_id_to_contiguous_id == {3: 0}


def test_without_annotations_all_images_are_empty(load, coco):
    records = load({**coco, "annotations": []})
    assert [record["annotations"] for record in records] == [[], []]
    assert median_diameter(records) == 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda coco: coco["categories"][0].update(name="cell"), r"\{1: 'cell'\}.*\['nucleus'\]"),
        (
            lambda coco: coco["categories"].append({"id": 2, "name": "debris"}),
            r"2: 'debris'.*\['nucleus'\]",
        ),
        (lambda coco: coco["images"][1].update(file_name="c.png"), r"1 of 2 .* missing .*c\.png"),
    ],
)
def test_a_spoilt_file_is_refused(load, coco, spoil, message):
    spoil(coco)
    with pytest.raises(DatasetError, match=message) as error:
        load(coco)
    assert "nuclei.json" in str(error.value)


def test_label_maps_are_the_union_of_the_sample_s_masks(sample_folder, converted_sample):
    register_dsb2018(converted_sample)
    labels = 0
    for name in ("dsb2018_train", "dsb2018_val"):
        for record in DatasetCatalog.get(name):
            masks = sample_folder / "stage1_train" / Path(record["file_name"]).stem / "masks"
            read = [np.asarray(Image.open(path)) > 0 for path in masks.iterdir()]
            found = read_label_map(record)
            assert found.dtype == np.uint8
            assert (found == np.any(read, axis=0)).all()
            labels += found.any()
    assert labels == 32


def test_label_maps_are_png_files_named_as_the_images(load, coco, tmp_path, write_png):
    write_png(tmp_path / "images" / "deep" / "c.tif", np.zeros((12, 16), np.uint8))
    coco["images"][1]["file_name"] = "deep/c.tif"
    for name in ("a", "c"):
        write_png(tmp_path / "labels" / f"{name}.png", np.zeros((12, 16), np.uint8))
    records = load(coco, sem_seg_root=tmp_path / "labels")
    found = [record["sem_seg_file_name"] for record in records]
    assert found == [str(tmp_path / "labels" / name) for name in ("a.png", "c.png")]


def test_missing_label_maps_are_named_with_the_remedy(load, coco, tmp_path, write_png):
    with pytest.raises(
        DatasetError, match=r"2 of 2 label maps .*'a\.png', 'b\.png'\. Paint them\.$"
    ):
        load(coco, sem_seg_root=tmp_path / "labels", remedy="Paint them.")
    write_png(tmp_path / "labels" / "a.png", np.zeros((12, 16), np.uint8))
    with pytest.raises(DatasetError, match=r"1 of 2 label maps .*b\.png"):
        load(coco, sem_seg_root=tmp_path / "labels")


def test_images_that_would_share_a_label_map_are_refused(load, coco, tmp_path, write_png):
    write_png(tmp_path / "images" / "deep" / "a.png", np.zeros((12, 16), np.uint8))
    write_png(tmp_path / "labels" / "a.png", np.zeros((12, 16), np.uint8))
    coco["images"][1]["file_name"] = "deep/a.png"
    assert len(load(coco)) == 2
    with pytest.raises(DatasetError, match=r"share the label map 'a\.png'"):
        load(coco, sem_seg_root=tmp_path / "labels")


def test_metadata_names_the_labels_with_and_without_files(load, coco, tmp_path, write_png):
    coco["categories"].append({"id": 2, "name": "mitosis"})
    for name in ("a", "b"):
        write_png(tmp_path / "labels" / f"{name}.png", np.zeros((12, 16), np.uint8))
    for root in (None, tmp_path / "labels", None):
        records = load(coco, ["nucleus", "mitosis"], sem_seg_root=root)
        assert all(("sem_seg_file_name" in record) == (root is not None) for record in records)
        metadata = MetadataCatalog.get(NAME)
        assert metadata.stuff_classes == ["background", "nucleus", "mitosis"]
        assert metadata.ignore_label == 255
        assert metadata.sem_seg_root == (root and str(root))


def test_a_file_name_that_leads_out_of_the_image_root(coco, load, tmp_path, write_png, rgba):
    write_png(tmp_path / "secret.png", rgba())
    coco["images"][1]["file_name"] = "../secret.png"
    with pytest.raises(DatasetError, match=rf"{NAME}.*nuclei\.json.*could lead out of.*images"):
        load(coco)


def test_sub_folders_and_links_of_the_image_root(coco, load, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "images" / "a.png").rename(outside / "a.png")
    (tmp_path / "images" / "link").symlink_to(outside)
    coco["images"][0]["file_name"] = "link/a.png"
    assert load(coco)[0]["file_name"].endswith("link/a.png")
