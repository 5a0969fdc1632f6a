"""Predictions of volumes: labels out of channels, and what takes no volumes."""

import numpy as np
import pytest
from detectron2.modeling import build_model

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data.augmentation import build_test_resize
from unet_sharp_det.errors import ConfigError
from unet_sharp_det.modeling.semantic_labels import SemanticLabels
from unet_sharp_det.prediction import Predictor
from unet_sharp_det.prediction.volume_predictor import paint_channels


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
