"""The detector's pasting against detectron2's, and its limits for large windows."""

import numpy as np
import pytest
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import nn

from unet_sharp_det.errors import ConfigError
from unet_sharp_det.prediction.detector import Detector, paste


def raw_detections(network_size, count, seed=0):
    """Return detections as ``GeneralizedRCNN.inference(do_postprocess=False)`` gives them."""
    generator = torch.Generator().manual_seed(seed)
    height, width = network_size
    found = Instances(network_size)
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 1.05 - 5
    sides = torch.rand(count, 2, generator=generator) ** 3 * min(network_size)
    found.pred_boxes = Boxes(torch.cat([corners, corners + sides], dim=1))
    found.pred_masks = torch.rand(count, 1, 28, 28, generator=generator)
    found.scores = torch.rand(count, generator=generator)
    found.pred_classes = torch.randint(0, 3, (count,), generator=generator)
    return found


@pytest.mark.parametrize(
    "network_size, shape",
    [((128, 128), (64, 64)), ((200, 120), (100, 60)), ((96, 224), (131, 77)), ((64, 64), (64, 64))],
)
def test_masks_are_those_that_detectron2_pastes(network_size, shape):
    for seed in range(5):
        wanted = detector_postprocess(raw_detections(network_size, 60, seed), *shape)
        found = paste(raw_detections(network_size, 60, seed), shape)
        masks = wanted.pred_masks.numpy()
        visible = masks.any(axis=(1, 2))
        assert visible.sum() > 30
        np.testing.assert_array_equal(found.full_masks(), masks[visible])
        np.testing.assert_array_equal(found.scores, wanted.scores.numpy()[visible])
        np.testing.assert_array_equal(found.classes, wanted.pred_classes.numpy()[visible])


def test_nothing_detected():
    assert len(paste(raw_detections((64, 64), 0), (32, 32))) == 0


def test_a_model_without_masks_is_refused():
    with pytest.raises(ConfigError, match="Linear predicts no masks"):
        Detector(nn.Linear(1, 1), 0.5)
