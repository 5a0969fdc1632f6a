"""Costs counted on the meta device against those of a network that really runs."""

import pytest
import torch
from detectron2.modeling import build_model

from benchmarks.experiments import cost
from benchmarks.experiments.cost import network_cost
from benchmarks.measure import multiply_adds
from unet_sharp_det.config import setup_cfg


def config(repository, name, *opts):
    return setup_cfg(str(repository / "configs" / name), ["MODEL.DEVICE", "cpu", *opts])


def run_once(cfg, size):
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    image = torch.zeros(3, size, size)
    counted = multiply_adds(lambda: model([{"image": image, "height": size, "width": size}]))
    return sum(parameter.numel() for parameter in model.parameters()), counted / 1e9


def test_semantic(repository):
    cfg = config(repository, "DSB2018-SemanticSegmentation/compact/unetsharp.yaml")
    found = network_cost(cfg, size=64)
    assert (found.parameters, found.whole_gmac) == pytest.approx(run_once(cfg, 64))
    assert 0 < found.features_gmac < found.whole_gmac


def test_mask_rcnn(repository, monkeypatch):
    # Untrained, every proposal of the few becomes an object.
    name = "DSB2018-InstanceSegmentation/compact/mask_rcnn_lite0_unetsharp.yaml"
    opts = ["MODEL.RPN.POST_NMS_TOPK_TEST", "7", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
    opts += ["MODEL.RPN.NMS_THRESH", "1.0", "MODEL.ROI_HEADS.NMS_THRESH_TEST", "1.0"]
    cfg = config(repository, name, *opts)
    monkeypatch.setattr(cost, "OBJECTS", 7)
    found = network_cost(cfg, size=64)
    assert (found.parameters, found.whole_gmac) == pytest.approx(run_once(cfg, 64))


@pytest.mark.parametrize(
    "name",
    [
        "DSB2018-Detection/retinanet_R_50_unetsharp.yaml",
        "DSB2018-InstanceSegmentation/cascade_mask_rcnn_R_50_unetsharp.yaml",
        "DSB2018-PanopticSegmentation/panoptic_fpn_R_50_unetsharp.yaml",
    ],
)
def test_other_architectures(repository, name):
    found = network_cost(config(repository, name))
    assert 1 < found.features_gmac < found.whole_gmac
