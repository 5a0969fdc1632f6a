"""Where json files of COCO and their images lie, and what they say of splits."""

import json
import shutil
from pathlib import Path

import pytest
from annotated_images import coco, picture, save, write_coco

from unet_sharp_det.errors import DatasetError


def test_coco_files_of_splits(tmp_path, run_images):
    write_coco(tmp_path / "s")
    file = tmp_path / "s" / "annotations" / "all.json"
    content = json.loads(file.read_text())
    for split, ids in (("train", {0, 1}), ("val", {2})):
        part = {**content, "images": [each for each in content["images"] if each["id"] in ids]}
        kept = [each for each in content["annotations"] if each["image_id"] in ids]
        part["annotations"] = kept
        file.with_name(f"instances_{split}2026.json").write_text(json.dumps(part))
    file.unlink()
    found = run_images(tmp_path / "s")
    assert found.splits == {"train": ["a", "b"], "val": ["c"]}
    content["categories"].append({"id": 8, "name": "ghost"})
    file.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="--strict: nothing was written. no object of ghost"):
        run_images(file, "--strict", name="ghost")


def test_a_coco_file_is_read_again_after_a_change(tmp_path, run_images):
    write_coco(tmp_path / "s")
    file = tmp_path / "s" / "annotations" / "all.json"
    assert run_images(tmp_path / "s").status == 0
    content = json.loads(file.read_text())
    content["categories"] = [{**each, "name": "new name"} for each in content["categories"]]
    file.write_text(json.dumps(content))
    assert run_images(tmp_path / "s", name="again").dataset["classes"] == ["new name"]


def write_splits(root, folders, name):
    """Of each split a json file, which calls its images as ``name`` says, and a folder."""
    (root / "annotations").mkdir(parents=True)
    for seed, (split, folder) in enumerate(folders.items()):
        content = coco(polygons=True)
        content["images"].pop()
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] < 2]
        for number, image in enumerate(content["images"]):
            save(root / folder / f"{number}.png", picture(10 * seed + number))
            image["file_name"] = name.format(number)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("folders", "name"),
    [
        ({"train": "train", "val": "val"}, "{}.png"),
        ({"instances_train2017": "train2017", "instances_val2017": "val2017"}, "{}.png"),
        ({"train": "a/train", "val": "a/val"}, "../../label-studio/data/media/{}.png"),
        ({"train": "a/train", "val": "a/val"}, "C:\\media\\{}.png"),
    ],
)
def test_splits_of_coco_have_images_of_one_name(folders, name, tmp_path, run_images):
    write_splits(tmp_path / "s", folders, name)
    found = run_images(tmp_path / "s")
    assert found.status == 0
    assert "same image twice" not in found.text
    for split, folder in zip(("train", "val"), folders.values(), strict=True):
        content = json.loads((found.folder / found.dataset["splits"][split]).read_text())
        files = [each["file_name"] for each in content["images"]]
        root = Path(found.dataset["image_root"])
        assert [root / each for each in files] == [
            tmp_path / "s" / folder / f"{number}.png" for number in range(2)
        ]


def test_an_image_of_coco_that_may_be_one_of_two(tmp_path, run_images):
    write_coco(tmp_path / "s")
    shutil.copytree(tmp_path / "s" / "pictures", tmp_path / "s" / "masks")
    (tmp_path / "s" / "masks" / "b.png").unlink()
    found = run_images(tmp_path / "s")
    assert set(found.objects) == {"b"}
    assert "2 images below" in found.text
    assert "are called 'a.png'. Write the path" in found.text


def test_coco_of_crowds_alone(tmp_path, run_images):
    write_coco(tmp_path / "s")
    file = tmp_path / "s" / "annotations" / "all.json"
    file.write_text(file.read_text().replace('"iscrowd": 0', '"iscrowd": 1'))
    with pytest.raises(DatasetError, match="all 12 annotations have 'iscrowd' 1"):
        run_images(tmp_path / "s")
