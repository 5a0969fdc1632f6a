"""The detector's pasting against detectron2's, and its limits for large windows."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from prediction_models import compact_detector_cfg, semantic_cfg
from torch import nn

from unet_sharp_det.errors import ConfigError
from unet_sharp_det.modeling.test_time_augmentation import VIEWS
from unet_sharp_det.prediction.detector import Detector, paste, to_input
from unet_sharp_det.prediction.segmenter import Segmenter
from unet_sharp_det.prediction.tile_grid import Tile


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


def test_the_network_gets_pixels_that_it_may_write(recwarn):
    """PIL's are read-only, of which torch warns."""
    torch.set_warn_always(True)
    assert to_input(np.ones((1, 1, 3), np.uint8), 1.0).shape == (3, 1, 1)
    torch.set_warn_always(False)
    assert not recwarn.list


def test_nothing_detected():
    assert len(paste(raw_detections((64, 64), 0), (32, 32))) == 0


def test_a_model_without_masks_is_refused():
    with pytest.raises(ConfigError, match="Linear predicts no masks"):
        Detector(nn.Linear(1, 1), 0.5)


@pytest.mark.parametrize("kind", [Detector, Segmenter])
def test_windows_of_a_level_have_their_objects_in_the_image(kind):
    """The network sees the same; the objects are twice as large, with finer outlines."""
    torch.manual_seed(0)
    model = build_model(compact_detector_cfg() if kind is Detector else semantic_cfg()).eval()
    finder = kind(model, 0.0, VIEWS[:2])
    colours = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    window = np.kron(colours, np.ones((16, 16, 1), np.uint8))
    found = []
    for factor in (1, 2):
        height, width = 64 * factor, 96 * factor
        tile = Tile(*[slice(0, height), slice(0, width)] * 2, (False,) * 4)
        found += finder.find([window], [tile], (height, width), 1 / factor, factor)
    small, large = (each.label_map() > 0 for each in found)
    assert large.shape == (128, 192)
    assert small.any()
    enlarged = np.kron(small, np.ones((2, 2), bool))
    assert (enlarged & large).sum() > 0.8 * (enlarged | large).sum()
