"""The images that settings are chosen by."""

import json
from collections import Counter

import pytest
from detectron2.data import DatasetCatalog

from benchmarks.hold_back import hold_back
from unet_sharp_det.data.folders import read_images, register_images
from unet_sharp_det.images.decoding import read_picture
from unet_sharp_det.images.looks import guess_look


@pytest.fixture
def parts(converted_sample, tmp_path):
    """The dataset dicts of both parts."""
    (tmp_path / "dsb2018").symlink_to(converted_sample)
    hold_back(tmp_path / "dsb2018")
    folder = tmp_path / "dsb2018_choice"
    register_images(folder.name, folder, read_images(folder))
    return [DatasetCatalog.get(f"dsb2018_choice_{part}") for part in ("train", "val")]


def test_a_third_of_each_look_is_held_back_and_nothing_is_lost(parts, converted_sample):
    content = json.loads((converted_sample / "annotations" / "dsb2018_train.json").read_text())
    records = [*parts[0], *parts[1]]
    ids = [record["image_id"] for record in records]
    assert sorted(ids) == sorted(image["id"] for image in content["images"])
    assert sum(len(r["annotations"]) for r in records) == len(content["annotations"])
    looks = [Counter(guess_look(read_picture(r["file_name"])) for r in part) for part in parts]
    assert len(looks[0]) > 1
    for look, rest in looks[0].items():
        assert looks[1][look] == (rest + looks[1][look]) // 3
