"""Convolutions by other kernels are the same."""

import copy

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from timm.layers import Conv2dSame
from torch import nn

from unet_sharp_det.runtime.convolutions import FusedConv2d, speed_up_convolutions


def sped_up(model: nn.Module) -> nn.Module:
    fast = copy.deepcopy(model).requires_grad_(False)
    speed_up_convolutions(fast)
    return fast


@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize("size", [(8, 14), (16, 6), (7, 8), (8, 9), (5, 5)])
def test_same_padding_of_even_and_odd_maps(kernel, groups, size):
    model = nn.Sequential(Conv2dSame(6, 12, kernel, 2, groups=groups), nn.ReLU6())
    x = torch.randn(2, 6, *size)
    torch.testing.assert_close(sped_up(model)(x), model(x))


def test_even_maps_are_not_padded(monkeypatch):
    fast = sped_up(nn.Sequential(Conv2dSame(3, 4, 3, 2)))
    monkeypatch.setattr(Conv2dSame, "forward", None)
    assert fast(torch.zeros(1, 3, 8, 8)).shape == (1, 4, 4, 4)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 5, 1),
        nn.Conv2d(3, 5, 1, stride=2, bias=False),
        nn.Conv2d(3, 6, 3, padding=(2, 1), dilation=(2, 1), groups=3),
    ],
)
@pytest.mark.parametrize(
    "activation", [nn.ReLU(), nn.ReLU6(), nn.SiLU(), nn.Hardswish(), nn.GELU(), nn.Identity()]
)
def test_an_activation_after_a_convolution(conv, activation):
    model = nn.Sequential(conv, nn.Identity(), activation, nn.ReLU())
    x = 9 * torch.randn(2, 3, 6, 7)
    fast = sped_up(model)
    torch.testing.assert_close(fast(x), model(x))
    assert isinstance(fast[0], FusedConv2d)
    assert (type(fast[2]) is nn.Identity) == (type(activation) is not nn.GELU)
    assert fast(x[:0]).shape == model(x[:0]).shape


@pytest.mark.parametrize("activation", [None, F.relu, nn.ReLU(), nn.SiLU(), F.gelu])
def test_detectron2_s_convolution_with_its_activation(activation):
    model = nn.Sequential(Conv2d(3, 4, 3, activation=activation))
    x = torch.randn(2, 3, 6, 7)
    fast = sped_up(model)
    torch.testing.assert_close(fast(x), model(x))
    assert isinstance(fast[0], FusedConv2d) == (activation is not F.gelu)
    model.append(nn.Hardswish())
    torch.testing.assert_close(sped_up(model)(x), model(x))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        Conv2d(3, 4, 3, norm=get_norm("GN", 32)),
    ],
)
def test_what_stays_as_it_is(conv):
    assert sped_up(nn.Sequential(conv))[0].__class__ is conv.__class__
