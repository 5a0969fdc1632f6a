"""Predictions of volumes: labels where the scan's voxels are, whatever its orientation."""

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from detectron2.modeling import build_model
from scans import write_scan
from volume_files import TURNS, scan

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data.augmentation import build_test_resize
from unet_sharp_det.errors import ConfigError
from unet_sharp_det.modeling.semantic_labels import SemanticLabels
from unet_sharp_det.prediction import Predictor
from unet_sharp_det.prediction.volume_predictor import VolumePredictor, paint_channels
from unet_sharp_det.volumes import read_labels, read_volume


def stand_in(inputs):
    """Takes what is above the median for label 1."""
    return [{"sem_seg": (each["image"] > each["image"].median()).float()} for each in inputs]


@pytest.fixture
def predict():
    def prepare(volume, where):
        return torch.from_numpy(volume.array.astype(np.float32))

    return VolumePredictor(stand_in, prepare, SemanticLabels())


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mhd"])
def test_labels_lie_on_the_voxels_of_the_scan(turn, ending, predict, tmp_path):
    original = scan(TURNS[turn])
    sitk.WriteImage(original, str(tmp_path / f"scan{ending}"))
    path = predict.write(tmp_path / f"scan{ending}", tmp_path / "out")

    assert path.name == "scan_labels" + (".nii.gz" if ending == ".mhd" else ending)
    labels = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(original)
    expected = values > np.sort(values.ravel())[(values.size - 1) // 2]
    assert 0 < expected.sum() < expected.size
    assert np.array_equal(sitk.GetArrayFromImage(labels), expected)
    assert labels.GetSize() == original.GetSize()
    for found, true in (
        (labels.GetSpacing(), original.GetSpacing()),
        (labels.GetOrigin(), original.GetOrigin()),
        (labels.GetDirection(), original.GetDirection()),
    ):
        assert found == pytest.approx(true, abs=1e-5)


def test_objects_and_a_picture_beside_the_labels(predict, tmp_path):
    array = np.zeros((10, 12, 12), np.int16)
    array[2:5, 2:6, 2:6] = array[6:9, 6:11, 6:11] = 100
    write_scan(tmp_path / "scan.nii.gz", array, spacing=(1, 1, 2.5), origin=(3, 4, 5))
    predict.write(tmp_path / "scan.nii.gz", tmp_path / "out", object_distance=8)
    objects = read_labels(
        tmp_path / "out" / "scan_objects.nii.gz", like=read_volume(tmp_path / "scan.nii.gz")
    )
    assert np.array_equal(objects.array[0] > 0, array > 0)
    assert objects.array.max() == 2
    picture = cv2.imread(str(tmp_path / "out" / "scan_planes.png"))
    assert picture.shape[0] == 512
    assert (picture.min(axis=2) != picture.max(axis=2)).any()  # Contours have colours.


def test_a_predictor_of_images_refuses_a_model_of_volumes():
    cfg = setup_cfg("Base-VNet.yaml", ["MODEL.DEVICE", "cpu", "MODEL.UNET.CHANNELS", "[4, 4]"])
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["res0", "res1"]
    model = build_model(cfg)
    with pytest.raises(ConfigError, match=r"takes volumes, not images\. Give scans to"):
        Predictor(model, build_test_resize(cfg.INPUT))


def test_nested_regions_become_the_labels_of_brats():
    regions = SemanticLabels(num_classes=3, regions=((1, 2, 4), (1, 4), (4,)))
    decided = np.array([[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]], bool)[:, None, None]
    assert paint_channels(decided, regions).ravel().tolist() == [0, 2, 1, 4]


def test_exclusive_channels_become_their_numbers():
    labels = SemanticLabels(num_classes=3, activation="softmax")
    decided = np.eye(3, dtype=bool)[:, None, None]
    assert paint_channels(decided, labels).ravel().tolist() == [0, 1, 2]
