"""BraTS 2019, as it is distributed and as mirrors have it."""

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from scans import BRAIN, blocks, cases_of, noise, write_scan

from unet_sharp_det.data.volume_catalog import register_volumes
from unet_sharp_det.errors import DatasetError
from unet_sharp_det.importers.dataset import assign_splits
from unet_sharp_det.volumes import read_labels, read_volume

FIRST, SECOND = "HGG/BraTS19_2013_10_1", "LGG/BraTS19_TCIA09_141_1"


@pytest.fixture
def brats(tmp_path):
    """A function (folder, labels, suffix=".nii.gz") that adds a case; the folder of the data."""
    root = tmp_path / "MICCAI_BraTS_2019_Data_Training"

    def add(folder, labels=(1, 2, 4), suffix=".nii.gz"):
        stem = root / folder / folder.split("/")[1]
        for seed, name in enumerate(("flair", "t1", "t1ce", "t2")):
            write_scan(f"{stem}_{name}{suffix}", noise(BRAIN, seed), **BRAIN)
        write_scan(f"{stem}_seg{suffix}", blocks(BRAIN, *labels), **BRAIN)
        return root

    return add


def test_both_grades_and_both_suffixes(brats, run_import, tmp_path):
    brats(FIRST)
    root = brats(SECOND, labels=(1, 2), suffix=".nii")
    status, content, text = run_import("brats19", root.parent)
    assert status == 0
    assert content["labels"] == {
        "0": "background",
        "1": "necrotic core",
        "2": "oedema",
        "4": "enhancing tumour",
    }
    cases = cases_of(content)
    assert cases["BraTS19_2013_10_1"]["patient"] == "BraTS19_2013_10"
    assert cases["BraTS19_TCIA09_141_1"]["image"][1] == "volumes/BraTS19_TCIA09_141_1_t1ce.nii"
    assert content["modality"] == ["t1", "t1ce", "t2", "flair"]
    assert "2 cases" in text
    assert "Spacing 1" not in text  # for the origin is none of 0

    folder = tmp_path / "datasets" / "brats19"
    register_volumes("brats_test", folder / "dataset.json")
    records = [
        record
        for split in ("train", "val")  # two cases: none tests
        for record in DatasetCatalog.get(f"brats_test_{split}")
    ]
    assert len(records) == 2
    for record in records:
        scan = read_volume(record["volume_files"])
        labels = read_labels(record["label_file"], like=scan)
        np.testing.assert_array_equal(scan.array[3], noise(BRAIN, 0))  # flair, the last
        assert set(np.unique(labels.array)) <= {0, 1, 2, 4}
    metadata = MetadataCatalog.get("brats_test_train")
    assert metadata.stuff_classes == ["background", "necrotic core", "oedema", "3"] + [
        "enhancing tumour"
    ]


def test_cases_that_cannot_be_used_are_named(brats, run_import):
    brats(FIRST)
    brats("HGG/BraTS19_CBICA_AAB_1", labels=(1, 3))
    brats("HGG/BraTS19_CBICA_AAG_1").joinpath(
        "HGG/BraTS19_CBICA_AAG_1/BraTS19_CBICA_AAG_1_t1ce.nii.gz"
    ).unlink()
    root = brats("LGG/BraTS19_TMC_06290_1", suffix=".nii")
    cut = root / "LGG/BraTS19_TMC_06290_1/BraTS19_TMC_06290_1_t2.nii"
    cut.write_bytes(cut.read_bytes()[:-100])
    brats(SECOND)
    small = {**BRAIN, "size": (10, 12, 7)}
    stem = root / SECOND / "BraTS19_TCIA09_141_1"
    write_scan(f"{stem}_seg.nii.gz", blocks(small, 1), **small)

    status, content, text = run_import("brats19", root)
    assert status == 1
    assert list(cases_of(content)) == ["BraTS19_2013_10_1"]
    left_out = text.partition("Left out 4:")[2].split("\n  ")[1:]
    assert "labels [3] are none of [0, 1, 2, 4]" in left_out[0]
    assert "There is no BraTS19_CBICA_AAG_1_t1ce.nii.gz in " in left_out[1]
    assert "t2.nii: cannot be read, it is truncated" in left_out[3]
    assert "seg.nii.gz: lies on other voxels" in left_out[2]


def test_scans_of_a_patient_stay_together(brats, run_import):
    for number in range(1, 4):
        root = brats(f"HGG/BraTS19_CBICA_AAB_{number}")
    _, content, text = run_import("brats19", root)
    assert sorted(len(content[split]) for split in ("train", "val", "test")) == [0, 0, 3]
    assert "No case is of val: import another patient, too." in text


def test_other_folders_are_refused(tmp_path, run_import):
    (tmp_path / "HGG").mkdir()
    with pytest.raises(DatasetError, match="Give BraTS' training folder"):
        run_import("brats19", tmp_path)


def test_the_split_is_70_10_20_by_the_name():
    splits = assign_splits(f"BraTS19_{number}" for number in range(3000))
    shares = {split: [*splits.values()].count(split) / 3000 for split in ("train", "val")}
    assert shares == {"train": pytest.approx(0.7, abs=0.03), "val": pytest.approx(0.1, abs=0.03)}
    # sha256sum gives e7f6c011 = 3891707921, 4e074085 = 1309098117 and 5feceb66 = 1609362278.
    assert assign_splits("630") == {"6": "train", "3": "val", "0": "test"}


@pytest.mark.parametrize(
    ("patients", "splits"),
    [
        ("0", {"0": "train"}),
        ("06", {"0": "val", "6": "train"}),
        ("03", {"0": "train", "3": "val"}),
    ],
)
def test_of_two_patients_one_is_of_train_and_one_of_val(patients, splits):
    assert assign_splits(patients) == splits
