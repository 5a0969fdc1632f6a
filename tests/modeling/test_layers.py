"""Convolutions rearranged: the same values and gradients, as plain torch computes them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unet_sharp_det.errors import ConfigError
from unet_sharp_det.modeling import layers

MODES = {2: "bilinear", 3: "trilinear"}


def upsample_then_convolve(x, weight, bias, size, mode):
    mode = MODES[len(size)] if mode == "linear" else mode
    upsampled = F.interpolate(x, size=size, mode=mode)
    return layers.CONV_FUNCTION[len(size)](upsampled, weight, bias, padding=1)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize(
    ("size", "new_size"),
    [
        ((5, 7), (20, 28)),
        ((5, 7), (19, 25)),
        ((1, 6), (4, 23)),
        ((3, 4, 5), (12, 15, 20)),
        ((16, 16), (32, 32)),
    ],
)
def test_upsampled_convolution(size, new_size, mode):
    torch.manual_seed(0)
    x = torch.randn(2, 40, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, 40, *[3] * len(size), dtype=torch.float64, requires_grad=True)
    bias = torch.randn(8, dtype=torch.float64, requires_grad=True)
    expected = upsample_then_convolve(x, weight, bias, new_size, mode)
    found = layers.convolve_upsampled(x, weight, bias, new_size, mode)
    assert torch.allclose(found, expected, atol=1e-10)
    direction = torch.randn_like(expected)
    for a, b in zip(
        torch.autograd.grad(found, (x, weight, bias), direction),
        torch.autograd.grad(expected, (x, weight, bias), direction),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-9)


def test_upsampled_convolution_takes_the_cheaper_way(monkeypatch):
    calls = []
    monkeypatch.setattr(layers, "_convolve_taps", lambda *_: calls.append("taps") or 1 / 0)
    weight = torch.randn(8, 64, 3, 3)
    layers.convolve_upsampled(torch.randn(1, 64, 32, 32), weight, None, (64, 64), "linear")
    assert calls == []
    with pytest.raises(ZeroDivisionError):
        layers.convolve_upsampled(torch.randn(1, 64, 8, 8), weight, None, (64, 64), "linear")


def test_sum_of_convolutions_is_the_convolution_of_the_concatenation():
    torch.manual_seed(0)
    maps = [torch.randn(2, n, 9, 11, dtype=torch.float64) for n in (3, 4, 5, 6)]
    conv = nn.Conv2d(18, 7, 3, padding=1, dtype=torch.float64)
    expected = conv(torch.cat(maps, dim=1))
    for in_place in ([True] * 4, [False] * 4, [True, False, True, False]):
        found = layers.sum_of_convolutions(conv, maps, [3, 4, 5, 6], in_place)
        assert torch.allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_recomputing_counts_batch_statistics_once(momentum):
    torch.manual_seed(0)
    block = layers.conv_block(3, 4, norm="BN").train()
    block[1].momentum = momentum
    plain = layers.conv_block(3, 4, norm="BN").train()
    plain[1].momentum = momentum
    plain.load_state_dict(block.state_dict())
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    for _ in range(3):
        layers.recompute_in_backward(block, x).square().sum().backward()
        plain(x.detach()).square().sum().backward()
    for name, value in plain.state_dict().items():
        assert torch.equal(block.state_dict()[name], value), name
    assert block[1].momentum == momentum
    assert block[1].num_batches_tracked == 3
    for a, b in zip(block.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-5)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (32, 32), (16, 16), (48, 16), (5, 1)])
def test_group_norm_of_any_width(channels, groups, dim):
    norm = layers.conv_block(3, channels, norm="GN", dim=dim)[1]
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups
    assert norm(torch.randn(1, channels, *[2] * dim)).isfinite().all()


def test_volumes_have_no_norm_of_images():
    for norm in ("FrozenBN", "LN", "naiveSyncBN"):
        layers.build_norm(norm, 4)
        with pytest.raises(ConfigError, match=f"NORM in 3D: '{norm}' is not known"):
            layers.build_norm(norm, 4, dim=3)
