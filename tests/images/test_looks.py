import csv

import cv2
import numpy as np
import pytest

from unet_sharp_det.images import read_image
from unet_sharp_det.images.looks import guess_look


def test_looks_of_the_sample(sample_folder):
    with open(sample_folder / "looks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["look"] for row in rows} == {"fluorescence", "histology", "bright-field"}
    for row in rows:
        path = sample_folder / "stage1_train" / row["id"] / "images" / f"{row['id']}.png"
        assert guess_look(read_image(path, "BGR")) == row["look"], row["id"]
        if row["look"] != "histology":
            assert guess_look(read_image(path, "L")) == row["look"], row["id"]


@pytest.mark.parametrize(
    ("look", "background", "spot"),
    [
        ("fluorescence", (300, 300, 300), (4000, 4000, 4000)),
        ("bright-field", (60000, 60000, 60000), (20000, 20000, 20000)),
        ("histology", (58000, 50000, 57000), (30000, 9000, 28000)),
    ],
)
def test_files_of_any_depth(look, background, spot, tmp_path):
    pixels = np.full((40, 40, 3), background, np.uint16)
    pixels[:12, :12] = spot
    opaque = np.full((40, 40, 1), 255, np.uint8)
    images = {"16bit.png": pixels, "16bit.tif": pixels}
    images["alpha.png"] = np.concatenate([(pixels >> 8).astype(np.uint8), opaque], axis=2)
    if look != "histology":
        images["gray.png"] = pixels[..., 0]
    for name, image in images.items():
        cv2.imwrite(str(tmp_path / name), image)
        assert guess_look(read_image(tmp_path / name, "RGB")) == look, name
