"""The necks: one contract for every scheme, and equality with detectron2's FPN."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import LazyCall, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone, build_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import nn

from unet_sharp_det import SkipFPN, neck_options
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import ConfigError, UserError
from unet_sharp_det.skip_schemes import scheme_names

CHANNELS = {"res2": 8, "res3": 12, "res4": 16, "res5": 20}


class Pyramid(Backbone):
    """A bottom-up of one convolution a level, at strides 4..32, for any image size."""

    def __init__(self, strides=(4, 8, 16, 32)):
        super().__init__()
        self.strides = dict(zip(CHANNELS, strides, strict=True))
        self.convs = nn.ModuleDict({name: nn.Conv2d(3, c, 1) for name, c in CHANNELS.items()})

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        maps: dict[str, torch.Tensor] = {}
        for name, conv in self.convs.items():
            maps[name] = conv(F.avg_pool2d(x, self.strides[name], ceil_mode=True))
        return maps

    def output_shape(self):
        return {n: ShapeSpec(channels=c, stride=self.strides[n]) for n, c in CHANNELS.items()}


def neck(scheme, **options):
    torch.manual_seed(0)
    options = {"top_block": LastLevelMaxPool(), **options}
    grid = neck_options(scheme)
    if grid.fuse == "cat":
        grid = replace(grid, node_channels=16 if scheme == "unet3p" else 8, edge_channels=4)
    return SkipFPN(Pyramid(), list(CHANNELS), 16, scheme=scheme, options=grid, **options)


@pytest.mark.parametrize("scheme", scheme_names())
class TestContract:
    """What every scheme must do as a neck; a newly registered one is tested by being there."""

    @pytest.mark.parametrize("size", [(64, 64), (65, 97), (33, 200)])
    @pytest.mark.parametrize("batch", [1, 2])
    def test_shapes(self, scheme, size, batch):
        model = neck(scheme)
        outputs = model(torch.randn(batch, 3, *size))
        strides = {name: shape.stride for name, shape in model.output_shape().items()}
        assert strides == {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
        for name, stride in strides.items():
            expected = tuple(-(-n // stride) for n in size)
            assert tuple(outputs[name].shape) == (batch, 16, *expected)
        assert model.size_divisibility == 32

    def test_every_parameter_gets_a_gradient(self, scheme):
        model = neck(scheme)
        outputs = model(torch.randn(2, 3, 64, 96))
        sum(x.square().mean() for x in outputs.values()).backward()
        without = [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0]
        assert without == []

    def test_channels_last(self, scheme):
        model = neck(scheme).eval()
        x = torch.randn(2, 3, 64, 96)
        expected = model(x)
        model = model.to(memory_format=torch.channels_last)
        found = model(x.contiguous(memory_format=torch.channels_last))
        for name in expected:
            assert torch.allclose(expected[name], found[name], atol=1e-4)
        assert found["p2"].is_contiguous(memory_format=torch.channels_last)

    def test_export(self, scheme):
        model = neck(scheme).eval()
        x = torch.randn(1, 3, 64, 96)
        exported = torch.export.export(model, (x,)).module()
        for name, expected in model(x).items():
            assert torch.allclose(exported(x)[name], expected, atol=1e-5)

    @pytest.mark.parametrize("options", [{}, {"norm": "BN"}], ids=str)
    def test_torchscript(self, scheme, options):
        model = neck(scheme, **options).eval()
        scripted = torch.jit.script(model)
        assert set(scripted.state_dict()) == set(model.state_dict())
        for size in [(64, 64), (65, 97), (33, 200)]:
            x = torch.randn(2, 3, *size)
            expected, found = model(x), scripted(x)
            assert list(found) == list(expected)
            assert all(torch.equal(found[name], expected[name]) for name in expected)

    def test_strides_may_repeat(self, scheme):
        """As of a ResNet whose res5 is dilated, or of a ViT."""
        for strides, divisor in [((4, 8, 16, 16), 16), ((16, 16, 16, 16), 16), ((4, 4, 8, 8), 8)]:
            torch.manual_seed(0)
            model = SkipFPN(Pyramid(strides), list(CHANNELS), 16, scheme=scheme)
            names = [f"p{strides[0].bit_length() - 1 + level}" for level in range(4)]
            declared = {name: shape.stride for name, shape in model.output_shape().items()}
            assert declared == dict(zip(names, strides, strict=True))
            assert model.size_divisibility == divisor
            outputs = model(torch.randn(2, 3, 65, 97))
            for name, stride in declared.items():
                assert outputs[name].shape[2:] == (-(-65 // stride), -(-97 // stride))
            sum(x.square().mean() for x in outputs.values()).backward()
            assert all(p.grad.abs().sum() > 0 for p in model.parameters())

    @pytest.mark.parametrize("norm", ["BN", "GN", "SyncBN"])
    def test_norms(self, scheme, norm):
        model = neck(scheme, norm=norm)
        assert model.fpn_lateral2.bias is None
        if norm != "SyncBN":
            assert model(torch.randn(2, 3, 64, 64))["p2"].isfinite().all()

    @pytest.mark.parametrize("fuse", ["cat", "sum", "weighted", "residual"])
    def test_any_fuse(self, scheme, fuse):
        options = neck_options(scheme, fuse=fuse)
        model = SkipFPN(Pyramid(), list(CHANNELS), 16, scheme=scheme, options=options)
        assert model(torch.randn(1, 3, 64, 64))["p2"].shape == (1, 16, 16, 16)

    def test_levels_may_be_fewer(self, scheme):
        model = SkipFPN(Pyramid(), ["res3", "res4"], 16, scheme=scheme)
        assert list(model(torch.randn(1, 3, 64, 64))) == ["p3", "p4"]


def test_compile():
    model = neck("unetsharp").eval()
    x = torch.randn(1, 3, 64, 96)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for name, expected in model(x).items():
        assert torch.allclose(compiled(x)[name], expected, atol=1e-5)


class TestEqualsDetectron2:
    """Scheme ``fpn`` is detectron2's FPN: same names, same initialisation, same bits."""

    @pytest.mark.parametrize("fuse_type", ["sum", "avg"])
    @pytest.mark.parametrize("norm", ["", "BN"])
    def test_bit_for_bit_with_its_checkpoint(self, norm, fuse_type):
        options = dict(norm=norm, top_block=LastLevelMaxPool(), fuse_type=fuse_type)
        theirs = FPN(Pyramid(), list(CHANNELS), 16, **options).eval()
        ours = SkipFPN(Pyramid(), list(CHANNELS), 16, **options, scheme="fpn").eval()
        ours.load_state_dict(theirs.state_dict(), strict=True)
        x = torch.randn(2, 3, 96, 64)
        expected, found = theirs(x), ours(x)
        assert list(expected) == list(found)
        assert all(torch.equal(expected[name], found[name]) for name in expected)
        assert ours.output_shape() == theirs.output_shape()
        assert ours.size_divisibility == theirs.size_divisibility

    @pytest.mark.parametrize("norm", ["", "BN"])
    @pytest.mark.parametrize("scheme", scheme_names())
    def test_a_residual_neck_begins_as_fpn(self, scheme, norm):
        theirs = FPN(Pyramid(), list(CHANNELS), 16, norm=norm).eval()
        options = neck_options(scheme, node_channels=8, edge_channels=4, fuse="residual")
        ours = SkipFPN(Pyramid(), list(CHANNELS), 16, norm, scheme=scheme, options=options).eval()
        own = ours.load_state_dict(theirs.state_dict(), strict=False)
        assert own.unexpected_keys == []
        assert all(name.startswith("grid.") for name in own.missing_keys)
        x = torch.randn(2, 3, 96, 64)
        expected, found = theirs(x), ours(x)
        assert all(torch.equal(expected[name], found[name]) for name in expected)
        for correction in ours.grid.corrections.values():
            nn.init.ones_(correction.weight)
        assert not torch.equal(ours(x)["p2"], found["p2"])

    def test_square_padding(self):
        model = SkipFPN(Pyramid(), list(CHANNELS), 16, square_pad=512)
        assert model.padding_constraints == {"square_size": 512}

    def test_lazy_config_swaps_the_target(self):
        stock = LazyCall(FPN)(
            bottom_up=LazyCall(Pyramid)(),
            in_features=list(CHANNELS),
            out_channels=16,
            top_block=LazyCall(LastLevelMaxPool)(),
        )
        stock._target_ = SkipFPN
        stock.scheme = "unetpp"
        assert instantiate(stock).scheme == "unetpp"


@pytest.mark.parametrize(
    ("scheme", "width", "params"),
    [
        *[("fpn", 0, 3.344), ("unetpp", 0, 3.603), ("unet3p", 0, 5.115), ("unetsharp", 0, 4.230)],
        *[("unetpp", 256, 12.78), ("unetsharp", 256, 17.50)],
    ],
)
def test_parameters_at_the_default_and_the_full_width(scheme, width, params):
    options = ["MODEL.FPN.SKIP_SCHEME", scheme, "MODEL.FPN.NODE_CHANNELS", str(width)]
    cfg = setup_cfg("", [*options, "MODEL.FPN.EDGE_CHANNELS", str(width)])
    cfg.MODEL.BACKBONE.NAME = "build_skip_fpn_backbone"
    cfg.MODEL.FPN.IN_FEATURES = cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    model = build_backbone(cfg)
    own = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("bottom_up"))
    assert round(own / 1e6, 2 if width else 3) == params


RESIDUAL = neck_options("unetsharp", fuse="residual")


class TestBadInput:
    @pytest.mark.parametrize(
        ("features", "options", "message"),
        [
            ("res2 res4", {}, r"strides \[4, 16\]"),
            ("rez2 res3", {}, "IN_FEATURES: 'rez2'.*Did you mean 'res2'"),
            ("res2 res3", {"scheme": "unet_sharp"}, "Did you mean 'unetsharp'"),
            ("res2 res3", {"fuse_type": "max"}, "FUSE_TYPE"),
            ("res2 res3", {"fuse_type": "avg", "options": RESIDUAL}, "avg does not fit.*residual"),
            ("res2 res3", {"norm": "GroupNorm"}, "NORM in 2D: 'GroupNorm' is not known"),
            ("res2 res3", {"top_block": LastLevelMaxPool()}, "top_block.in_feature: 'p5'"),
        ],
    )
    def test_arguments(self, features, options, message):
        with pytest.raises(UserError, match=message):
            SkipFPN(Pyramid(), features.split(), 16, **options)

    def test_strides_that_fall(self):
        with pytest.raises(ConfigError, match=r"strides \[4, 8, 16, 8\].*res5 \(stride 8\)"):
            SkipFPN(Pyramid((4, 8, 16, 8)), list(CHANNELS), 16)

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("MODEL.FPN.BOTTOM_UP", "build_resnet", "Did you mean 'build_resnet_backbone'"),
            ("MODEL.FPN.TOP_BLOCK", "max_pool", "Did you mean 'maxpool'"),
            ("MODEL.FPN.SKIP_FUSE", "concat", "Available: auto, add, cat, weighted, residual"),
        ],
    )
    def test_config_values(self, key, value, message):
        cfg = setup_cfg("", [key, value])
        cfg.MODEL.BACKBONE.NAME = "build_skip_fpn_backbone"
        cfg.MODEL.FPN.IN_FEATURES = cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4"]
        with pytest.raises(ConfigError, match=message):
            build_backbone(cfg)


@pytest.mark.parametrize(
    ("top_block", "top"), [("maxpool", {"p6": 32}), ("p6p7", {"p6": 32, "p7": 64})]
)
def test_a_dilated_resnet(top_block, top):
    """Names and top block follow the strides; the contract has repeated ones of any scheme."""
    cfg = setup_cfg("", ["MODEL.FPN.TOP_BLOCK", top_block])
    cfg.MODEL.BACKBONE.NAME = "build_skip_fpn_backbone"
    cfg.MODEL.RESNETS.RES5_DILATION = 2
    cfg.MODEL.FPN.IN_FEATURES = cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    model = build_backbone(cfg)
    strides = {name: shape.stride for name, shape in model.output_shape().items()}
    assert strides == {"p2": 4, "p3": 8, "p4": 16, "p5": 16, **top}
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, 64, 96))
    sizes = {name: tuple(x.shape[2:]) for name, x in outputs.items()}
    assert sizes == {name: (-(-64 // s), -(-96 // s)) for name, s in strides.items()}


def test_any_registered_backbone_carries_the_neck():
    @BACKBONE_REGISTRY.register()
    def build_a_pyramid_of_the_user(cfg, input_shape):
        return Pyramid()

    cfg = setup_cfg("", ["MODEL.FPN.BOTTOM_UP", "build_a_pyramid_of_the_user"])
    cfg.MODEL.BACKBONE.NAME = "build_skip_fpn_backbone"
    cfg.MODEL.FPN.IN_FEATURES = list(CHANNELS)[:3]
    outputs = build_backbone(cfg)(torch.zeros(1, 3, 64, 64))
    assert list(outputs) == ["p2", "p3", "p4", "p5"]
