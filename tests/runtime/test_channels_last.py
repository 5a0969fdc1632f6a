"""Training in the channels-last format: losses and gradients, and what stays as it was."""

import copy

import torch
from detectron2.modeling import build_model
from detectron2.modeling.poolers import ROIPooler
from detectron2.utils.events import EventStorage
from nuclei_records import nuclei_record
from torch import nn

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.runtime import use_channels_last
from unet_sharp_det.runtime.roi_pooling import PixelROIPooler

LITE0 = "configs/quick_schedules/mask_rcnn_lite0_unetsharp_instant_test.yaml"


def build(*options: str) -> nn.Module:
    torch.manual_seed(0)
    narrow = ["MODEL.FPN.OUT_CHANNELS", "32", "MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"]
    return build_model(setup_cfg(LITE0, [*narrow, *options])).train()


def losses_and_gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    with EventStorage():
        losses = model([nuclei_record(seed, 96, 128) for seed in (0, 1)])
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    return {**losses, **gradients}


def test_losses_and_gradients_are_those_of_the_model():
    model = build()
    changed = copy.deepcopy(model)
    assert use_channels_last(changed)
    wanted, found = losses_and_gradients(model), losses_and_gradients(changed)
    assert changed.state_dict().keys() == model.state_dict().keys()
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert (found[name] - value).abs().max() <= 1e-3 * value.abs().max() + 1e-6, name


def test_what_a_detector_trains_in():
    model = build()
    use_channels_last(model)
    seen = []
    model.roi_heads.box_head.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    losses_and_gradients(model)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    assert isinstance(model.roi_heads.mask_pooler, PixelROIPooler)


def test_group_norms_in_the_neck_leave_a_model_as_it_is():
    model = build("MODEL.FPN.NORM", "GN")
    assert not use_channels_last(model)
    assert isinstance(model.roi_heads.mask_pooler, ROIPooler)
