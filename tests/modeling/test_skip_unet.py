"""The U-Nets: the paper's counts, Eq. 1 written out, and what every scheme must do."""

import re

import pytest
import torch
from torch import nn

from benchmarks.literal_unetsharp import LiteralUNetSharp
from unet_sharp_det.errors import ConfigError, DatasetError, SchemeError, UserError
from unet_sharp_det.modeling import SkipUNet
from unet_sharp_det.modeling.semantic_labels import SemanticLabels
from unet_sharp_det.skip_schemes import scheme_names

CHANNELS = (32, 64, 128, 256, 512)
TINY = (4, 6, 8, 10, 12)


def count(**options) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in SkipUNet(**options).parameters())


def tiny(scheme="unetsharp", depth=5, **options) -> SkipUNet:
    torch.manual_seed(0)
    options = {"channels": TINY[:depth], "edge_channels": 4, **options}
    if scheme == "unet3p":
        options.setdefault("node_channels", [6] * depth)
    return SkipUNet(scheme, **options)


def labels(*shape, classes=2) -> torch.Tensor:
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(0))


class TestParameterCounts:
    """UNet#, Fig. 7: three input channels, one class, one 1x1 head; tests/test_configs.py has the
    counts of Table 1."""

    @pytest.mark.parametrize(
        ("edge", "expected"),
        [
            ("raw", [103_041, 555_969, 2_531_073, 10_748_481]),
            ("f", [103_041, 565_281, 2_429_985, 9_716_865]),
        ],
    )
    def test_levels_of_unetsharp(self, edge, expected):
        assert [count(edge=edge, channels=CHANNELS[:n]) for n in (2, 3, 4, 5)] == expected

    def test_the_published_unet3p_fuses_five_times_64_channels(self):
        with torch.device("meta"):
            grid = SkipUNet("unet3p").sem_seg_head.decoder.grid
        assert {edge[0].out_channels for edge in grid.edges.values()} == {64}
        assert len(grid.edges) == 20
        assert all(node[0][0].weight.shape[:2] == (320, 320) for node in grid.nodes.values())


class TestEquationOne:
    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("size", [(64, 48), (50, 37)])
    @pytest.mark.parametrize("checkpoint", [False, True])
    def test_equals_the_literal_network(self, size, training, checkpoint):
        net = tiny(checkpoint=checkpoint).double().train(training)
        literal = LiteralUNetSharp(tiny()).double().train(training)
        images = torch.randn(2, 3, *size, dtype=torch.float64)
        expected = literal(images)
        found = logits(net, images)
        assert torch.allclose(found, expected, atol=1e-9)
        weight = torch.randn_like(expected)
        (expected * weight).sum().backward()
        (found * weight).sum().backward()
        theirs = dict(LiteralUNetSharp(net).named_parameters())
        for name, parameter in literal.named_parameters():
            assert torch.allclose(parameter.grad, theirs[name].grad, atol=1e-7), name
        theirs = LiteralUNetSharp(net).state_dict()
        for name, value in literal.state_dict().items():
            assert torch.allclose(value, theirs[name], atol=1e-9), name

    def test_the_order_of_convolution_and_upsampling_is_another_function(self):
        images = torch.randn(1, 3, 32, 32)
        first, second = tiny(), tiny(edge_order="conv_up")
        assert first.state_dict().keys() == second.state_dict().keys()
        assert not torch.allclose(logits(first, images), logits(second, images), atol=1e-3)


def logits(net: SkipUNet, images: torch.Tensor) -> torch.Tensor:
    features = net.backbone(images)
    branches = net.sem_seg_head.decoder(list(features.values()))
    return next(branches[node] for node in branches if node == (0, len(features) - 1)).logits


@pytest.mark.parametrize("edge", ["f", "raw"])
@pytest.mark.parametrize("scheme", scheme_names())
class TestEveryScheme:
    """A new scheme is tested by being registered."""

    @pytest.mark.parametrize("supervision", ["none", "in", "de", "all"])
    def test_every_parameter_learns(self, scheme, edge, supervision):
        net = tiny(scheme, edge=edge, deep_supervision=supervision, cgm=True)
        losses = net(torch.randn(2, 3, 32, 48), labels(2, 32, 48))
        assert set(losses) == {f"loss_sem_seg_{n}" for n in ("focal", "dice", "lovasz", "cgm")}
        sum(losses.values()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())

    @pytest.mark.parametrize("depth", [2, 3, 4])
    def test_any_depth(self, scheme, edge, depth):
        net = tiny(scheme, edge=edge, depth=depth, num_classes=3, deep_supervision="all").eval()
        assert net(torch.randn(1, 3, 20, 28)).shape == (1, 3, 20, 28)

    @pytest.mark.parametrize("size", [(16, 16), (50, 47), (1, 40), (33, 1), (1, 1)])
    def test_any_size_comes_back(self, scheme, edge, size):
        net = tiny(scheme, edge=edge, deep_supervision="all", cgm=True).eval()
        with torch.no_grad():
            probabilities = net(torch.randn(1, 3, *size))
        assert probabilities.shape == (1, 1, *size)
        assert ((probabilities >= 0) & (probabilities <= 1)).all()

    @pytest.mark.parametrize("size", [(45, 51), (40, 1)])
    def test_any_size_trains(self, scheme, edge, size):
        net = tiny(scheme, edge=edge, deep_supervision="all", cgm=True)
        losses = net(torch.randn(2, 3, *size), labels(2, *size))
        assert all(value.isfinite() for value in losses.values())

    def test_three_dimensions(self, scheme, edge):
        net = tiny(scheme, edge=edge, dim=3, depth=3, deep_supervision="all", cgm=True)
        losses = net(torch.randn(2, 1, 8, 16, 12), labels(2, 8, 16, 12))
        sum(losses.values()).backward()
        assert all(p.grad is not None for p in net.parameters())
        assert net.eval()(torch.randn(1, 1, 9, 17, 12)).shape == (1, 1, 9, 17, 12)


def test_compile():
    net = tiny(depth=3, deep_supervision="all", cgm=True).eval()
    images = torch.randn(1, 3, 32, 32)
    assert torch.allclose(torch.compile(net, backend="aot_eager")(images), net(images), atol=1e-5)


def test_checkpointing_changes_nothing_of_edges_that_are_convolved_first():
    plain, frugal = (tiny(edge_order="conv_up", checkpoint=on) for on in (False, True))
    images, truth = torch.randn(2, 3, 48, 32), labels(2, 48, 32)
    for net in (plain, frugal):
        sum(net(images, truth).values()).backward()
    for (name, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-5), name
    for name, value in plain.state_dict().items():
        assert torch.allclose(value, frugal.state_dict()[name], atol=1e-6), name


def test_an_overfitted_image():
    torch.manual_seed(0)
    net = tiny(depth=4, deep_supervision="all")
    images = torch.randn(2, 3, 32, 32)
    truth = (nn.functional.avg_pool2d(images.sum(1), 5, 1, 2) > 0).long()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        sum(net(images, truth).values()).backward()
        optimizer.step()
    predicted = net.eval()(images)[:, 0] > 0.5
    iou = (predicted & (truth == 1)).sum() / (predicted | (truth == 1)).sum()
    assert iou > 0.85


def test_a_volume_too_small_is_told():
    with pytest.raises(UserError, match="need 4 on every side"):
        tiny(dim=3, depth=3)(torch.randn(1, 1, 8, 3, 8))


def test_unknown_labels_are_told():
    with pytest.raises(DatasetError, match=r"holds the labels \[2\].*Set .*NUM_CLASSES"):
        tiny()(torch.randn(1, 3, 32, 32), torch.full((1, 32, 32), 2))


@pytest.mark.parametrize(
    "shape", [(2, 32, 32), (2, 64, 63), (2, 65, 64), (1, 64, 64), (2, 1, 64, 64), (64, 64)]
)
def test_labels_of_another_shape_are_told(shape):
    message = re.escape(f"{list(shape)} do not fit images of shape [2, 64, 64]")
    with pytest.raises(DatasetError, match=message):
        tiny(deep_supervision="all")(torch.randn(2, 3, 64, 64), torch.zeros(shape).long())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 4}, "2 or 3 dimensions"),
        ({"dim": 3, "channels": [4] * 6}, "6 levels, V-Net 5"),
        ({"deep_supervision": "al"}, "Did you mean 'all'"),
        ({"inference": "quick"}, "accurate, fast"),
        ({"node_channels": [1, 2]}, "2 numbers for 5 levels"),
        ({"cgm": True, "labels": SemanticLabels(2, "softmax")}, "CGM needs ACTIVATION: sigmoid"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ConfigError, match=message):
        tiny(**options)


def test_a_wrong_scheme_names_the_head_s_key():
    with pytest.raises(SchemeError, match="MODEL.SEM_SEG_HEAD.SKIP_SCHEME: 'unet4'"):
        tiny("unet4")
