"""The converter and its command line tool on whole data sets."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from unet_sharp_det.data.dsb2018_convert import convert_dsb2018, split_of
from unet_sharp_det.errors import DatasetError

REST = "1" * 56
TRAIN, VAL, TEST = (f"0000000{digit}{REST}" for digit in "057")


@pytest.fixture
def three_images(kaggle, square, rgba):
    """One image per split, each with one nucleus; returns their folder."""
    for seed, dsb_id in enumerate((TRAIN, VAL, TEST)):
        folder = kaggle(dsb_id, {"a": square((2, 5), (3, 9))}, rgba(seed=seed))
    return folder


def files_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def read_json(root, split):
    return json.loads((root / "annotations" / f"dsb2018_{split}.json").read_text())


@pytest.mark.parametrize(
    "digits, split",
    [("00000000", "train"), ("0000000e", "train"), ("00000005", "val"), ("00000006", "val")]
    + [("00000007", "test"), ("00000009", "test"), ("ffffffff", "val"), ("FFFFFFFF", "val")],
)
def test_split_goes_by_the_first_eight_digits(digits, split):
    assert split_of(digits) == split
    assert split_of(digits + "0123") == split


@pytest.mark.parametrize("name", ["", "1234567", "images", "0x123456", "12345678-copy"])
def test_other_names_have_no_split(name):
    assert split_of(name) is None


def test_sample_has_24_train_and_8_val_images_as_listed(sample_folder, converted_sample):
    with open(sample_folder / "looks.csv") as file:
        rows = list(csv.DictReader(file))
    for split, count in (("train", 24), ("val", 8), ("test", 0)):
        images = read_json(converted_sample, split)["images"]
        listed = {row["id"] for row in rows if row["split"] == split}
        assert len(images) == count
        assert {image["dsb_id"] for image in images} == listed
    looks = Counter((row["split"], row["look"]) for row in rows)
    assert set(looks) == {
        (split, look)
        for split in ("train", "val")
        for look in ("fluorescence", "histology", "bright-field")
    }


def test_sample_has_one_annotation_per_mask_and_no_rotten_file(sample_folder, converted_sample):
    masks = list(sample_folder.glob("stage1_train/*/masks/*.png"))
    counts = [len(read_json(converted_sample, split)["annotations"]) for split in ("train", "val")]
    assert sum(counts) == len(masks) > 1000
    report = json.loads((converted_sample / "annotations" / "report.json").read_text())
    assert all(
        quirk["count"] == 0 for quirk in report["quirks"].values() if quirk["effect"] == "skipped"
    )
    assert report["quirks"]["rgba"]["count"] == 32


def test_json_is_what_pycocotools_reads(converted_sample):
    coco = COCO(str(converted_sample / "annotations" / "dsb2018_val.json"))
    image = coco.imgs[min(coco.imgs)]
    masks = [coco.annToMask(annotation) for annotation in coco.imgToAnns[image["id"]]]
    assert {mask.shape for mask in masks} == {(image["height"], image["width"])}
    assert coco.cats == {1: {"id": 1, "name": "nucleus", "supercategory": "cell"}}
    assert {a["category_id"] for a in coco.anns.values()} == {1}
    assert {a["iscrowd"] for a in coco.anns.values()} == {0}


def test_images_are_the_bytes_of_the_input(three_images, tmp_path):
    convert_dsb2018(three_images, tmp_path / "out")
    for dsb_id in (TRAIN, VAL, TEST):
        original = three_images / dsb_id / "images" / f"{dsb_id}.png"
        assert (tmp_path / "out" / "images" / f"{dsb_id}.png").read_bytes() == original.read_bytes()


def test_the_same_input_gives_the_same_bytes(sample_folder, converted_sample, tmp_path):
    before = files_of(converted_sample)
    assert len(before) == 32 + 4
    convert_dsb2018(sample_folder / "stage1_train", tmp_path / "again")
    assert files_of(tmp_path / "again") == before


def test_a_rerun_leaves_unchanged_files_alone_and_mends_changed_ones(three_images, tmp_path):
    root = tmp_path / "out"
    convert_dsb2018(three_images, root)
    kept, changed = (root / "images" / f"{dsb_id}.png" for dsb_id in (TRAIN, VAL))
    before, stamp = files_of(root), kept.stat().st_mtime_ns
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    convert_dsb2018(three_images, root)
    assert kept.stat().st_mtime_ns == stamp
    assert files_of(root) == before


def test_a_rotten_image_moves_no_other_image_id(kaggle, square, tmp_path):
    ids = [f"0000000{digit}{REST}" for digit in "012"]
    for dsb_id in ids:
        folder = kaggle(dsb_id, {"a": square((2, 5), (3, 9))})
    (folder / ids[1] / "images" / f"{ids[1]}.png").write_bytes(b"rotten")
    convert_dsb2018(folder, tmp_path / "out")
    coco = read_json(tmp_path / "out", "train")
    assert [(image["id"], image["dsb_id"]) for image in coco["images"]] == [
        (1, ids[0]),
        (3, ids[2]),
    ]
    assert [(a["id"], a["image_id"]) for a in coco["annotations"]] == [(1, 1), (2, 3)]


def test_duplicate_images_are_named_with_their_splits_and_kept(kaggle, square, tmp_path):
    for dsb_id in (TRAIN, VAL):
        folder = kaggle(dsb_id, {"a": square((2, 5), (3, 9))})
    conversion = convert_dsb2018(folder, tmp_path / "out")
    assert conversion.quirks["duplicate_image"] == [f"{VAL} (val) = {TRAIN} (train)"]
    assert conversion.counts["train"]["images"] == conversion.counts["val"]["images"] == 1


def test_cli_exits_0_and_prints_the_table(prepare, three_images, tmp_path):
    status, out, _ = prepare(three_images, "--output", tmp_path / "out")
    assert status == 0
    table = [line.split() for line in out.splitlines()]
    assert ["split", "images", "nuclei", "skipped"] in table
    for split in ("train", "val", "test"):
        assert [split, "1", "1", "0"] in table


def test_cli_writes_to_the_default_root(prepare, three_images, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "all"))
    assert prepare(three_images)[0] == 0
    assert (tmp_path / "all" / "dsb2018" / "annotations" / "dsb2018_test.json").is_file()


def test_cli_says_which_split_is_empty(prepare, kaggle, tmp_path):
    status, out, _ = prepare(kaggle(TRAIN), "--output", tmp_path / "out")
    assert status == 0
    assert "no image of the input belongs to test" in out
    assert read_json(tmp_path / "out", "test")["images"] == []


def test_cli_names_rotten_files_and_exits_1(prepare, three_images, tmp_path):
    image = three_images / VAL / "images" / f"{VAL}.png"
    image.write_bytes(image.read_bytes()[:-100])
    (three_images / "not-an-id" / "images").mkdir(parents=True)
    status, out, err = prepare(three_images, "--output", tmp_path / "out")
    assert status == 1
    assert f"{VAL}/images/{VAL}.png" in out
    assert "not-an-id" in out
    assert "finished with 2 files skipped" in out
    assert "Traceback" not in out + err
    assert [image["dsb_id"] for image in read_json(tmp_path / "out", "train")["images"]] == [TRAIN]
    assert read_json(tmp_path / "out", "val")["images"] == []
    names = sorted(path.name for path in (tmp_path / "out" / "images").iterdir())
    assert names == [f"{TRAIN}.png", f"{TEST}.png"]


def test_cli_exits_2_for_a_folder_without_images(prepare, tmp_path):
    status, _, err = prepare(tmp_path, "--output", tmp_path / "out")
    assert status == 2
    assert "<id>/images/<id>.png" in err
    assert not (tmp_path / "out").exists()


def test_a_missing_input_says_where_to_get_it(tmp_path):
    with pytest.raises(DatasetError, match="BBBC038"):
        convert_dsb2018(tmp_path / "none", tmp_path / "out")


def test_a_folder_is_not_converted_into_itself(three_images):
    with pytest.raises(DatasetError, match="--output"):
        convert_dsb2018(three_images, three_images)


def test_the_tool_runs_as_a_script(three_images, tmp_path):
    repository = Path(__file__).parents[2]
    tool = repository / "datasets" / "prepare_dsb2018.py"
    command = [sys.executable, tool, three_images, "--output", tmp_path / "out"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert finished.returncode == 0, finished.stderr
    assert len(read_json(tmp_path / "out", "val")["annotations"]) == 1
