"""Products of 8-bit integers against sums that are computed exactly, and what stays in floats."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from unet_sharp_det.errors import ConfigError
from unet_sharp_det.prediction import PredictionOptions, Predictor
from unet_sharp_det.runtime import accelerate, accelerated
from unet_sharp_det.runtime.int8 import Int8Products, has_int8

CPU = torch.device("cpu")
needs_int8 = pytest.mark.skipif(not has_int8(CPU), reason="this CPU has no AVX-512 VNNI")


def integers(shape, zero: int) -> torch.Tensor:
    """Random values of 0 to 255, both of which occur, less ``zero``, in steps of 1/64."""
    x = torch.randint(0, 256, shape).float()
    x.flatten()[:2] = torch.tensor([0.0, 255.0])
    return (x - zero) / 64


def set_integers(layer: nn.Module) -> nn.Module:
    """Give each output channel weights of -127 to 127 in steps of its own."""
    weight = torch.randint(-127, 128, layer.weight.shape).float()
    weight.flatten(1)[:, 0] = 127
    steps = 2.0 ** -torch.arange(len(weight)).remainder(5)
    layer.weight.data = weight * steps.view(-1, *[1] * (weight.dim() - 1))
    return layer.requires_grad_(False)


@needs_int8
@pytest.mark.parametrize(
    "shape, layer",
    [
        ((1, 32, 20, 24), nn.Conv2d(32, 40, 3, padding=1)),
        ((3, 48, 21, 23), nn.Conv2d(48, 32, 3, padding=1, stride=2)),
        ((1, 32, 20, 24), nn.Conv2d(32, 32, 3, padding=2, dilation=2)),
        ((2, 64, 9, 9), nn.Conv2d(64, 32, 1, dilation=2, bias=False)),
        ((7, 96), nn.Linear(96, 32)),
        ((5, 7, 96), nn.Linear(96, 32, bias=False)),
    ],
)
@pytest.mark.parametrize("zero", [0, 100, 255])
def test_products_of_integers_are_exact(shape, layer, zero):
    set_integers(layer)
    x = integers(shape, zero)
    expected = copy.deepcopy(layer).double()(x.double())
    with Int8Products(layer):
        found = [layer(x) for _ in range(2)]  # the second time by the kept weights
    torch.testing.assert_close(found[0].double(), expected, rtol=1e-5, atol=1e-4)
    assert torch.equal(found[0], found[1])


@needs_int8
@pytest.mark.parametrize("layer", [nn.Conv2d(32, 32, 1), nn.Linear(32, 32)])
def test_other_values_are_rounded_to_the_nearest_integers(layer):
    layer.requires_grad_(False)
    x = torch.randn(4, 32, 32, 32)
    with Int8Products(layer):
        found, of_none = layer(x), layer(x[:0])
    difference = (found - layer(x)).abs().mean() / layer(x).abs().mean()
    assert 1e-4 < float(difference) < 0.02
    assert of_none.shape == (0, 32, 32, 32)


@needs_int8
def test_parts_of_one_weight_are_told_apart():
    conv = nn.Conv2d(96, 32, 3).requires_grad_(False)
    x = torch.randn(1, 32, 9, 9)
    with Int8Products(conv):
        for part in conv.weight.split(32, dim=1):
            torch.testing.assert_close(F.conv2d(x, part), F.conv2d(x, part + 0), atol=0.05, rtol=0)


@needs_int8
@pytest.mark.parametrize(
    "layer, shape",
    [
        (nn.Conv2d(32, 32, 3, groups=32), (1, 32, 9, 9)),
        (nn.Conv2d(32, 2, 1), (1, 32, 9, 9)),
        (nn.Conv2d(32, 32, 3, padding="same"), (1, 32, 9, 9)),
        (nn.Conv2d(3, 32, 3), (1, 3, 9, 9)),
        (nn.Conv3d(32, 32, 3), (1, 32, 5, 5, 5)),
    ],
)
def test_what_would_not_be_faster_or_has_no_kernel_stays_exact(layer, shape):
    layer.requires_grad_(False)
    x = torch.randn(shape)
    with Int8Products(layer):
        found, of_zeros = layer(x), layer(x * 0)
        by_another = F.conv2d(torch.ones(1, 32, 3, 3), torch.full((32, 32, 3, 3), 0.3))
    assert torch.equal(found, layer(x))
    assert torch.equal(of_zeros, layer(x * 0))
    assert torch.allclose(by_another, torch.tensor(0.3 * 288))


@needs_int8
@pytest.mark.parametrize("name", ["nuclei", "nuclei-fast"])
def test_it_finds_the_same_nuclei_alone_and_among_others(name, sample_folder):
    pixels = np.asarray(Image.open(min(sample_folder.glob("stage1_train/*/images/*.png"))))
    pixels = np.ascontiguousarray(pixels[:200, :200, :3])
    exact = Predictor.from_checkpoint(name)(pixels)
    options = PredictionOptions(precision="int8", batch_size=2)
    predict = Predictor.from_checkpoint(name, options=options)
    alone = predict(pixels)
    among = predict.predict_many([pixels, 255 - pixels])[0]
    assert np.array_equal(among.label_map(), alone.label_map())
    assert np.mean((exact.label_map() > 0) == (alone.label_map() > 0)) > 0.99
    assert abs(len(alone) - len(exact)) <= 1
    assert not np.array_equal(alone.scores, exact.scores)  # It is another computation.


def test_a_cpu_without_such_instructions_refuses(monkeypatch):
    monkeypatch.setattr(accelerated, "has_int8", lambda device: False)
    with pytest.raises(ConfigError, match="this cpu device is not fast in int8"):
        accelerate(nn.Conv2d(32, 32, 3), precision="int8")
