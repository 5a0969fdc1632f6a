"""Convolutions by other kernels are the same."""

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from unet_sharp_det.runtime.convolutions import speed_up_convolutions


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize("size", [(8, 14), (16, 6), (7, 8), (8, 9), (5, 5)])
def test_same_padding_of_even_and_odd_maps(kernel, groups, size):
    conv = Conv2dSame(6, 12, kernel, 2, groups=groups).eval().requires_grad_(False)
    model = nn.Sequential(conv)
    x = torch.randn(2, 6, *size)
    wanted = model(x)
    speed_up_convolutions(model)
    torch.testing.assert_close(model(x), wanted)


def test_even_maps_are_not_padded(monkeypatch):
    model = nn.Sequential(Conv2dSame(3, 4, 3, 2))
    speed_up_convolutions(model)
    monkeypatch.setattr(Conv2dSame, "forward", None)
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 4, 4, 4)


@pytest.mark.parametrize("channels", [3, 32, 33])
def test_one_by_one(channels):
    model = nn.Sequential(nn.Conv2d(channels, 5, 1), nn.Conv2d(5, 4, 1, stride=2))
    x = torch.randn(1, channels, 6, 7)
    wanted = model(x)
    speed_up_convolutions(model)
    torch.testing.assert_close(model(x), wanted)
    dilated = [conv.dilation == (2, 2) for conv in model]
    assert dilated == [channels <= 32, False]
