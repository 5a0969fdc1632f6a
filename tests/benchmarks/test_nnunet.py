"""Data for nnU-Net, and its predictions as objects."""

import json

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from benchmarks.nnunet import export, number
from unet_sharp_det.errors import DatasetError


@pytest.fixture
def tiny(write_png, tmp_path):
    """A data set of one image a part: a square, and two touching at a corner."""
    pixels = np.full((8, 10, 3), (10, 20, 30), np.uint8)  # BGR
    truth = np.zeros((8, 10), np.uint8)
    truth[2:4, 2:4] = 1
    for part in ("train", "val"):
        record = {"file_name": str(write_png(tmp_path / f"{part}_image.png", pixels))}
        record |= {"image_id": 1, "height": 8, "width": 10}
        record["sem_seg_file_name"] = str(write_png(tmp_path / "semantic.png", truth))
        DatasetCatalog.register(f"tiny_nn_{part}", lambda record=record: [record])
        MetadataCatalog.get(f"tiny_nn_{part}").thing_classes = ["nucleus"]


def test_the_layout_is_nnunet_s(tiny, tmp_path):
    folder = export("tiny_nn", 7, tmp_path / "raw")
    assert folder.name == "Dataset007_tiny_nn"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    expected = ["dataset.json", "imagesTr/train_image_0000.png", "imagesTs/val_image_0000.png"]
    assert files == [*expected, "labelsTr/train_image.png"]
    content = json.loads((folder / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "nucleus": 1}
    assert content["numTraining"] == 1
    image = cv2.imread(str(folder / "imagesTr" / "train_image_0000.png"))
    assert image[0, 0].tolist() == [10, 20, 30]
    with pytest.raises(DatasetError, match="there already"):
        export("tiny_nn", 7, tmp_path / "raw")


def test_objects_are_the_4_connected_components(write_png, tmp_path):
    mask = np.zeros((6, 6), np.uint8)
    mask[1:3, 1:3] = mask[3:5, 3:5] = 1
    write_png(tmp_path / "masks" / "a.png", mask)
    assert number(tmp_path / "masks", tmp_path / "labels") == 1
    labels = cv2.imread(str(tmp_path / "labels" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert labels[1, 1] == 1
    assert labels[4, 4] == 2
    assert labels.max() == 2
    with pytest.raises(DatasetError, match="holds no .png"):
        number(tmp_path / "labels" / "none", tmp_path)
