"""A converted data set of five small images."""

import json

import cv2
import pytest
from image_kinds import KINDS


@pytest.fixture
def one_of_each_kind(tmp_path):
    root = tmp_path / "kinds"
    for folder in ("annotations", "images"):
        (root / folder).mkdir(parents=True)
    images = []
    for number, (kind, pixels) in enumerate(KINDS.items()):
        image = {"id": number, "file_name": f"images/{kind}.png", "height": 64, "width": 80}
        images.append(image)
        cv2.imwrite(str(root / image["file_name"]), pixels)
    for split in ("train", "val", "test"):
        coco = {"images": images if split == "val" else [], "annotations": []}
        (root / f"annotations/dsb2018_{split}.json").write_text(json.dumps(coco))
    (root / "annotations/report.json").write_text("{}")
    return root
