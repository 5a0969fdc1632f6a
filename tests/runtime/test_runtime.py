"""The accelerated model against the model: values, and what stays as it was."""

import copy

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.structures import Boxes, Instances
from timm.layers import FrozenBatchNormAct2d
from torch import nn
from torchvision import ops

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import ConfigError
from unet_sharp_det.modeling import TimmBackbone
from unet_sharp_det.runtime import accelerate, accelerated, roi_chunks
from unet_sharp_det.runtime.convolutions import fold_norms
from unet_sharp_det.runtime.mask_layers import multiply_mask_layers
from unet_sharp_det.runtime.roi_pooling import PixelROIPooler

LITE0 = "configs/quick_schedules/mask_rcnn_lite0_unetsharp_instant_test.yaml"
R_50 = "configs/DSB2018-InstanceSegmentation/mask_rcnn_R_50_unetsharp.yaml"
CASCADE = "configs/DSB2018-InstanceSegmentation/cascade_mask_rcnn_R_50_unetsharp.yaml"
PANOPTIC = "configs/DSB2018-PanopticSegmentation/panoptic_fpn_R_50_unetsharp.yaml"
RETINANET = "configs/DSB2018-Detection/retinanet_R_50_unetsharp.yaml"
SEMANTIC = "configs/quick_schedules/unetsharp_cgm_instant_test.yaml"
NARROW = [
    *("MODEL.RESNETS.WIDTH_PER_GROUP", 4, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 16, "MODEL.FPN.OUT_CHANNELS", 16),
    *("MODEL.FPN.NODE_CHANNELS", 16, "MODEL.FPN.EDGE_CHANNELS", 16),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.ROI_MASK_HEAD.CONV_DIM", 16),
]
VGG_BN = ["MODEL.FPN.BOTTOM_UP", "build_timm_backbone", "MODEL.TIMM.NAME", "vgg11_bn"]
MODELS = {
    "lite0": (LITE0, ["MODEL.FPN.OUT_CHANNELS", 16, "MODEL.TIMM.NORM", "FrozenBN"]),
    "lite0, BN": (LITE0, ["MODEL.FPN.OUT_CHANNELS", 16, "MODEL.TIMM.NORM", "BN"]),
    "resnet": (R_50, NARROW),
    "resnet, BN everywhere": (
        R_50,
        [
            *NARROW,
            *("MODEL.RESNETS.NORM", "BN", "MODEL.FPN.NORM", "BN", "MODEL.ROI_MASK_HEAD.NORM", "BN"),
        ],
    ),
    "resnet, group norms in neck and heads": (
        R_50,
        [
            *(*NARROW, "MODEL.FPN.NORM", "GN", "MODEL.FPN.OUT_CHANNELS", 32),
            *("MODEL.FPN.NODE_CHANNELS", 32, "MODEL.FPN.EDGE_CHANNELS", 32),
        ],
    ),
    "vgg": (R_50, [*NARROW, *VGG_BN]),
    "cascade": (CASCADE, NARROW),
    "panoptic": (PANOPTIC, [*NARROW, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32]),
    "retinanet": (RETINANET, NARROW),
    "semantic": (SEMANTIC, ["MODEL.SEM_SEG_HEAD.NORM", "BN", "MODEL.UNET.NORM", "BN"]),
    "semantic, group norms": (SEMANTIC, ["MODEL.SEM_SEG_HEAD.NORM", "GN", "MODEL.UNET.NORM", "GN"]),
}
NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d, ops.FrozenBatchNorm2d, FrozenBatchNormAct2d)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def build(name: str) -> nn.Module:
    """A model in eval mode whose norms and biases do something."""
    config, options = MODELS[name]
    torch.manual_seed(0)
    cfg = setup_cfg(config, [*map(str, options), "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    model = build_model(cfg).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias, 0, 0.2)
    give_statistics(model)
    return model


@torch.no_grad()
def give_statistics(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, NORMS):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.7, 1.3)
            module.bias.normal_(0, 0.2)


def inputs(count=2, size=(96, 128)) -> list[dict]:
    generator = torch.Generator().manual_seed(1)
    shape = (3, *size)
    return [
        {"image": torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)}
        for _ in range(count)
    ]


def known_objects(count=40, size=(96, 128)) -> list[Instances]:
    generator = torch.Generator().manual_seed(2)
    found = []
    for _ in range(2):
        instances = Instances(size)
        instances.pred_boxes = random_boxes(count, size, generator)
        instances.pred_classes = torch.zeros(count, dtype=torch.int64)
        found.append(instances)
    return found


def random_boxes(count, size, generator) -> Boxes:
    """Boxes of all sizes and shapes, some beyond the image."""
    height, width = size
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 1.1 - 6
    sides = torch.rand(count, 2, generator=generator) ** 3 * 1.5 * max(size)
    return Boxes(torch.cat([corners, corners + sides], dim=1))


def stages(model: nn.Module) -> dict[str, torch.Tensor]:
    """What each part of the model computes, without the choices between near ties of an NMS."""
    with torch.inference_mode():
        images = model.preprocess_image(inputs()) if hasattr(model, "preprocess_image") else None
        if images is None:
            return {f"sem_seg {i}": out["sem_seg"] for i, out in enumerate(model(inputs()))}
        features = model.backbone(images.tensor)
        values = {f"features {name}": value for name, value in features.items()}
        if hasattr(model, "proposal_generator"):
            maps = [features[name] for name in model.proposal_generator.in_features]
            for part, name in zip(
                model.proposal_generator.rpn_head(maps), ("scores", "deltas"), strict=True
            ):
                values.update({f"rpn {name} {i}": value for i, value in enumerate(part)})
            values.update(heads(model.roi_heads, features))
        else:
            maps = [features[name] for name in model.head_in_features]
            for part, name in zip(model.head(maps), ("scores", "deltas"), strict=True):
                values.update({f"head {name} {i}": value for i, value in enumerate(part)})
        if hasattr(model, "sem_seg_head"):
            values["sem_seg"] = model.sem_seg_head(features, None)[0]
    return values


def heads(roi_heads: nn.Module, features: dict) -> dict[str, torch.Tensor]:
    boxes = [instances.pred_boxes for instances in known_objects()]
    pooled = roi_heads.box_pooler([features[name] for name in roi_heads.box_in_features], boxes)
    box_heads = roi_heads.box_head
    box_heads = box_heads if isinstance(box_heads, nn.ModuleList) else [box_heads]
    values = {f"box head {i}": head(pooled) for i, head in enumerate(box_heads)}
    found = roi_heads.forward_with_given_boxes(features, known_objects())
    return {**values, "masks": torch.cat([instances.pred_masks for instances in found])}


@pytest.mark.parametrize("name", MODELS)
def test_every_part_computes_the_same(name):
    model = build(name)
    state = copy.deepcopy(model.state_dict())
    wanted = stages(model)
    fast = accelerate(model)
    found = stages(fast)
    assert type(fast) is type(model)
    assert found.keys() == wanted.keys()
    for part, value in wanted.items():
        assert value.std() > 0, part
        error = (found[part] - value).abs().max() / value.abs().max()
        assert error < 1e-4, (part, error)
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert not any(parameter.is_inference() for parameter in fast.parameters())
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key
    for part, value in stages(model).items():
        assert torch.equal(value, wanted[part]), part


@pytest.mark.parametrize("name", ["lite0", "lite0, BN", "resnet, BN everywhere", "vgg", "semantic"])
def test_no_batch_norm_is_left(name):
    assert any(isinstance(module, NORMS) for module in build(name).modules())
    assert not any(isinstance(module, NORMS) for module in accelerate(build(name)).modules())


@pytest.mark.parametrize(
    ("architecture", "features"),
    [
        ("resnet18", ["res3", "res4"]),
        ("regnety_002", ["res3", "res4"]),
        ("mobilenetv3_small_050", ["res3", "res4"]),
        ("resnetv2_18", ["res3", "res4"]),
        ("vovnet39a", ["res3", "res4"]),
        ("repvit_m0_9", ["res2"]),  # adds the maps of two convolutions before a norm
        ("ghostnet_050", ["res1", "res2"]),  # res1 is a convolution without its norm
    ],
)
def test_norms_of_timm_s_blocks(architecture, features):
    torch.manual_seed(0)
    backbone = TimmBackbone(architecture, features)
    give_statistics(backbone)
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        wanted = backbone.eval()(image)
        fold_norms(backbone)
        found = backbone(image)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4 * value.abs().max())


def test_boxes_in_chunks_of_two_or_all_at_once(monkeypatch):
    model = build("lite0")
    whole = stages(accelerate(model))
    for name in ("_BOXES", "_MASKS"):
        monkeypatch.setattr(roi_chunks, name, 2)
    chunked = stages(accelerate(model))
    for name in ("box head 0", "masks"):
        assert len(whole[name]) > 4
        torch.testing.assert_close(chunked[name], whole[name])


def test_stages_of_a_cascade_see_boxes_in_chunks(monkeypatch):
    model = build("cascade")
    fast, sizes = accelerate(model).roi_heads, []
    for head in fast.box_head:
        head.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    monkeypatch.setattr(roi_chunks, "_BOXES", 16)
    proposals = [Instances((96, 128), proposal_boxes=each.pred_boxes) for each in known_objects()]
    with torch.inference_mode():
        features = model.backbone(model.preprocess_image(inputs()).tensor)
        maps = [features[name] for name in model.roi_heads.box_in_features]
        for stage in range(3):
            wanted = model.roi_heads._run_stage(maps, proposals, stage)
            found = fast._run_stage(maps, proposals, stage)
            for part, value in zip(found, wanted, strict=True):
                torch.testing.assert_close(part, value, rtol=1e-4, atol=1e-5)
    assert sizes == 3 * [16, 16, 8, 16, 16, 8]


def test_what_a_detector_runs_in():
    fast = accelerate(build("lite0"))
    assert isinstance(fast.roi_heads.box_pooler.pooler, PixelROIPooler)
    assert isinstance(fast.roi_heads.mask_pooler.pooler, PixelROIPooler)
    seen = []
    fast.roi_heads.box_pooler.head.register_forward_pre_hook(
        lambda module, args: seen.append(args[0])
    )
    with torch.inference_mode():
        (found, _) = fast(inputs())
    assert len(found["instances"]) > 0
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "name", ["resnet, group norms in neck and heads", "panoptic", "semantic, group norms"]
)
def test_group_norms_see_plain_maps(name):
    """torch computes them from sums of squares in the channels-last format, which is inexact."""
    fast = accelerate(build(name))
    seen = []
    for module in fast.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    stages(fast)
    assert len(seen) > 0
    assert all(x.is_contiguous() for x in seen)


class TestPooler:
    SIZE = (200, 300)

    @pytest.mark.parametrize("kind", ["ROIAlign", "ROIAlignV2"])
    @pytest.mark.parametrize("strides", [(4, 8, 16, 32), (8,)])
    @pytest.mark.parametrize("bins", [7, (5, 5), 14])
    def test_values_are_those_of_the_pooler(self, kind, strides, bins):
        generator = torch.Generator().manual_seed(3)
        pooler = ROIPooler(bins, [1 / stride for stride in strides], 0, kind)
        boxes = [random_boxes(count, self.SIZE, generator) for count in (80, 0, 33)]
        boxes[0].tensor[0] = torch.tensor([10.0, 10, 10, 40])  # without width
        boxes[0].tensor[1] = torch.tensor([-500.0, -300, 900, 800])
        boxes[0].tensor[2] = torch.tensor([1000.0, 1000, 1100, 1100])
        maps = [
            torch.randn(3, 6, -(-self.SIZE[0] // s), -(-self.SIZE[1] // s), generator=generator)
            for s in strides
        ]
        assert PixelROIPooler.computes(pooler)
        wanted = pooler(maps, boxes)
        for format_ in (torch.contiguous_format, torch.channels_last):
            given = [x.contiguous(memory_format=format_) for x in maps]
            assert torch.allclose(PixelROIPooler(pooler)(given, boxes), wanted, atol=1e-4)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_gradients_are_those_of_the_pooler(self, dtype):
        generator = torch.Generator().manual_seed(3)
        pooler = ROIPooler(7, [1 / 4, 1 / 8, 1 / 16], 0, "ROIAlignV2")
        boxes = [random_boxes(40, (140, 140), generator)]  # of the finest two levels
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
        assert all(gradients[1][level].abs().max() > 0 for level in (0, 1))
        assert gradients[1][2].abs().max() == 0

    def test_in_parts(self, monkeypatch):
        generator = torch.Generator().manual_seed(4)
        pooler = ROIPooler(7, [1 / 4], 0, "ROIAlignV2")
        boxes = [random_boxes(60, self.SIZE, generator)]
        maps = [torch.randn(1, 6, 50, 75, generator=generator)]
        monkeypatch.setattr("unet_sharp_det.runtime.roi_pooling._MOST_TAPS", 1000)
        assert torch.allclose(PixelROIPooler(pooler)(maps, boxes), pooler(maps, boxes), atol=1e-4)

    def test_without_boxes(self):
        pooler = PixelROIPooler(ROIPooler(7, [1 / 4, 1 / 8], 0, "ROIAlignV2"))
        maps = [torch.randn(1, 6, 8, 8), torch.randn(1, 6, 4, 4)]
        assert pooler(maps, [Boxes(torch.zeros(0, 4))]).shape == (0, 6, 7, 7)

    def test_what_it_does_not_compute(self):
        assert not PixelROIPooler.computes(ROIPooler(7, [1 / 4], 2, "ROIAlignV2"))
        assert not PixelROIPooler.computes(ROIPooler(7, [1 / 4], 0, "ROIPool"))
        assert not PixelROIPooler.computes(nn.Identity())


class TestPrecision:
    def test_unknown(self):
        with pytest.raises(ConfigError, match="precision: 'fp16' is not known.*fp32, bf16"):
            accelerate(nn.Linear(1, 1), precision="fp16")

    def test_a_cpu_without_bfloat16(self, monkeypatch):
        monkeypatch.setattr(accelerated, "has_bfloat16", lambda device: False)
        with pytest.raises(ConfigError, match="cpu device is not fast in bf16.*fp32"):
            accelerate(nn.Linear(1, 1), precision="bf16")

    @pytest.mark.parametrize(("has_amx", "precision"), [(True, "bf16"), (False, "fp32")])
    def test_auto(self, has_amx, precision, monkeypatch):
        monkeypatch.setattr(accelerated, "has_bfloat16", lambda device: has_amx)
        model = build("lite0")
        wanted = stages(accelerate(model, precision=precision))
        for part, value in stages(accelerate(model, precision="auto")).items():
            assert torch.equal(value, wanted[part]), part

    @pytest.mark.parametrize("name", ["lite0", "cascade", "retinanet", "semantic"])
    def test_bfloat16_is_near_but_not_the_same(self, name, monkeypatch):
        monkeypatch.setattr(accelerated, "has_bfloat16", lambda device: True)
        model = build(name)
        wanted, found = stages(model), stages(accelerate(model, precision="bf16"))
        for part, value in wanted.items():
            assert found[part].dtype == torch.float32, part
            error = (found[part] - value).abs().max() / value.abs().max()
            assert 1e-5 < error < 0.2, (part, error)


def test_any_module_is_copied():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    fast = accelerate(model.train())
    assert model.training
    assert not fast.training
    assert fast[0].weight is not model[0].weight


@pytest.mark.parametrize("masks", [0, 3])
def test_mask_layers_as_products_give_the_logits(masks):
    """Of several classes, and of no object."""
    head = MaskRCNNConvUpsampleHead(ShapeSpec(channels=6), num_classes=4, conv_dims=[6, 5])
    for layer in (head.deconv, head.predictor):
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    x = torch.randn(masks, 6, 7, 9)
    with torch.no_grad():
        expected = head.eval().layers(x)
        multiply_mask_layers(head)
        found = head.layers(x)
    assert found.shape == (masks, 4, 14, 18)
    torch.testing.assert_close(found, expected)
