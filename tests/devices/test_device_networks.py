"""Maps, losses and gradients in each precision of a device, against float64 on the CPU."""

import copy

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_backbone, build_model

from unet_sharp_det import SkipUNet
from unet_sharp_det.skip_schemes import scheme_names

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
#: Largest relative errors (of the 2-norm) of values.
TOLERANCE = {"fp32": 1e-4, "fp16": 0.01, "bf16": 0.05}
#: Those of gradients. Norms and rectifiers of small batches make those of a head uncertain.
OF_NECK = {"fp32": 1e-3, "fp16": 0.1, "bf16": 0.4}
OF_HEAD = {"fp32": 0.01, "fp16": 0.5, "bf16": 1.0}
LOSS_SCALE = 1024.0

schemes = pytest.mark.parametrize("scheme", scheme_names())


@pytest.fixture(params=TOLERANCE)
def precision(request, device):
    if request.param == "fp16" and device == "cpu":
        pytest.skip("the CPU takes minutes for it")
    return request.param


@pytest.fixture(autouse=True)
def full_float32(monkeypatch):
    """Of 10 bits, as TF32 has them, float32 would be no nearer than float16."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="session")
def side(device) -> int:
    return 64 if device == "cpu" else 256


def relative_error(found, expected) -> float:
    found, expected = (torch.cat([x.double().cpu().ravel() for x in y]) for y in (found, expected))
    return ((found - expected).norm() / expected.norm()).item()


def compare(network, run, device, precision, of_gradients):
    """Compare ``run``, from a network to values whose mean squares are the loss."""
    results = []
    exact, tested = copy.deepcopy(network).double(), network.to(device)
    for net, where, half in ((exact, "cpu", None), (tested, device, HALF.get(precision))):
        with torch.autocast(where, half or torch.bfloat16, enabled=half is not None):
            values = run(net)
        (LOSS_SCALE * sum(value.to(torch.float64).square().mean() for value in values)).backward()
        results.append((values, [p.grad for p in net.parameters() if p.grad is not None]))
    (expected, expected_gradients), (found, gradients) = results
    assert relative_error(found, expected) < TOLERANCE[precision]
    assert relative_error(gradients, expected_gradients) < of_gradients[precision]


@schemes
def test_necks(config, device, side, scheme, precision):
    torch.manual_seed(0)
    images = torch.randn(2, 3, side, side, dtype=torch.float64)

    def run(neck):
        return list(neck(images.to(next(neck.parameters()))).values())

    neck = build_backbone(config("detector", "MODEL.FPN.SKIP_SCHEME", scheme))
    compare(neck, run, device, precision, OF_NECK)


@schemes
def test_semantic_heads(config, device, side, scheme, precision):
    head = "MODEL.SEM_SEG_HEAD."
    cfg = config("semantic", f"{head}SKIP_SCHEME", scheme, f"{head}CGM.DROPOUT", 0.0)
    cfg.MODEL.SEM_SEG_HEAD.CGM.LOSS_WEIGHT = 0.1  # its batch norm is of four numbers
    cfg.MODEL.DEVICE = "cpu"
    torch.manual_seed(0)
    images = 255 * F.interpolate(torch.rand(4, 3, 6, 6), size=(side, side), mode="bilinear")
    inputs = [{"image": x.byte(), "sem_seg": (x[0] > 128).long()} for x in images]

    def run(model):
        return list(model.train()(inputs).values())

    compare(build_model(cfg), run, device, precision, OF_HEAD)


def test_volumes(device):
    torch.manual_seed(0)
    net = SkipUNet("unetsharp", 1, dim=3, channels=(4, 4, 4, 4, 4))
    volume = torch.randn(1, 1, 16, 32, 16, dtype=torch.float64)

    def run(net):
        return [net(volume.to(next(net.parameters())))]

    compare(net, run, device, "fp32", OF_HEAD)
