"""Which proposals a detector looks at."""

import copy

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from prediction_models import compact_detector_cfg
from torch import nn

from unet_sharp_det.prediction import proposals
from unet_sharp_det.prediction.detector import Detector
from unet_sharp_det.prediction.tile_grid import Tile


def test_an_image_of_background_has_no_proposal():
    """The box head sees those of a probability of 12 % or more."""
    torch.manual_seed(0)
    model = build_model(compact_detector_cfg()).eval()
    rpn, seen = model.proposal_generator.rpn_head, []
    detector = Detector(model, 0.5)
    model.proposal_generator.register_forward_hook(lambda m, i, out: seen.append(out[0][0]))
    window = np.zeros((64, 64, 3), np.uint8)
    tile = Tile(*[slice(0, 64)] * 4, (False,) * 4)
    for logit, has_proposals in ((-1.9, True), (-2.1, False)):
        nn.init.zeros_(rpn.objectness_logits.weight)
        nn.init.constant_(rpn.objectness_logits.bias, logit)
        (found,) = detector.find([window], [tile], (64, 64), 1.0)
        assert (len(seen.pop()) > 0) == has_proposals
    assert len(found) == 0


@pytest.fixture
def cascade():
    torch.manual_seed(0)
    cfg = compact_detector_cfg()
    cfg.MODEL.ROI_HEADS.NAME = "CascadeROIHeads"
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    return build_model(cfg).eval()


def find(model):
    """What the model finds in an image of noise, and how many boxes each stage saw."""
    sizes = []
    for head in model.roi_heads.box_head:
        head.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    noise = np.random.default_rng(0).integers(0, 256, (3, 96, 128), np.uint8)
    with torch.inference_mode():
        (found,) = model.inference([{"image": torch.from_numpy(noise)}], do_postprocess=False)
    return found, sizes


def test_a_cascade_whose_boxes_all_stay_finds_what_detectron2_s_does(cascade, monkeypatch):
    monkeypatch.setattr(proposals, "_LEAST_OBJECTNESS", -torch.inf)
    monkeypatch.setattr(proposals, "_LEAST_FIRST_SCORE", 0.0)
    monkeypatch.setattr(proposals, "_MOST_FIRST_IOU", 1.0)
    changed = copy.deepcopy(cascade)
    proposals.choose_proposals(changed)
    (wanted, _), (found, sizes) = find(cascade), find(changed)
    assert len(set(sizes)) == 1
    assert len(found) == len(wanted) > 10
    torch.testing.assert_close(found.scores, wanted.scores)
    torch.testing.assert_close(found.pred_boxes.tensor, wanted.pred_boxes.tensor)


def test_later_stages_of_a_cascade_see_fewer_boxes(cascade, monkeypatch):
    monkeypatch.setattr(proposals, "_MOST_FIRST_IOU", 0.2)
    proposals.choose_proposals(cascade)
    found, (first, second, third) = find(cascade)
    assert 0 < len(found) <= third == second < first


def test_what_is_worth_a_second_look():
    """Neither the unlikely one nor the double, but a double of another class."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [20, 20, 30, 30]])
    scores = torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.7, 0.2], [0.6, 0.1, 0.3], [0.09, 0.0, 0.91]])
    assert proposals._worth_a_second_look(boxes, scores).tolist() == [0, 2]
