"""Training in the channels-last format: losses and gradients, and what stays as it was."""

import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.runtime import use_channels_last
from unet_sharp_det.runtime.roi_pooling import PixelROIPooler

LITE0 = "configs/quick_schedules/mask_rcnn_lite0_unetsharp_instant_test.yaml"


def build(*options: str) -> nn.Module:
    torch.manual_seed(0)
    narrow = ["MODEL.FPN.OUT_CHANNELS", "32", "MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"]
    return build_model(setup_cfg(LITE0, [*narrow, *options])).train()


def batch() -> list[dict]:
    """Two images with three squares each."""
    generator = torch.Generator().manual_seed(1)
    records = []
    for _ in range(2):
        masks = torch.zeros(3, 96, 128, dtype=torch.bool)
        for k, mask in enumerate(masks):
            mask[10 : 20 + 20 * k, 10 + 35 * k : 35 + 35 * k] = True
        objects = Instances((96, 128), gt_classes=torch.zeros(3, dtype=torch.int64))
        objects.gt_masks = BitMasks(masks)
        objects.gt_boxes = objects.gt_masks.get_bounding_boxes()
        image = torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8, generator=generator)
        records.append({"image": image, "instances": objects, "height": 96, "width": 128})
    return records


def losses_and_gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    with EventStorage():
        losses = model(batch())
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_those_of_the_pooler(dtype):
    generator = torch.Generator().manual_seed(3)
    pooler = ROIPooler(7, [1 / 4, 1 / 8, 1 / 16], 0, "ROIAlignV2")
    corners = 150 * torch.rand(40, 2, generator=generator)
    sides = 4 + 180 * torch.rand(40, 2, generator=generator)  # of the finest two levels
    boxes = [Boxes(torch.cat([corners, corners + sides], dim=1))]
    weights = torch.randn(40, 6, 7, 7, generator=generator)
    maps = [torch.randn(1, 6, 256 // s, 256 // s, generator=generator) for s in (4, 8, 16)]
    gradients = []
    for each, precision in ((pooler, torch.float32), (PixelROIPooler(pooler), dtype)):
        leaves = [x.to(precision, copy=True).requires_grad_() for x in maps]
        (each(leaves, boxes) * weights).sum().backward()
        gradients.append([x.grad for x in leaves])
    tolerance = 1e-4 if dtype == torch.float32 else 2**-8  # of a rounding to bfloat16
    for wanted, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found.float(), wanted, rtol=tolerance, atol=1e-4)
    assert gradients[1][0].abs().max() > 0 == gradients[1][2].abs().max()
