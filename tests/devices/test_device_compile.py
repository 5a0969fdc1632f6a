"""torch.compile with inductor; without a GPU the contract tests of the necks trace them."""

import pytest
import torch
from detectron2.modeling import build_backbone

from unet_sharp_det import SkipUNet


@pytest.fixture(autouse=True)
def full_float32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def neck(config):
    return build_backbone(config("detector"))


def decoder(config):
    net = SkipUNet("unetsharp", channels=(4, 8, 8, 16, 16), edge_channels=4)
    return torch.nn.Sequential(net)


@pytest.mark.parametrize("build", [neck, decoder])
def test_a_compiled_network_trains_as_it_does_eagerly(config, gpu, build):
    torch.manual_seed(0)
    network = build(config).to(gpu).train()
    images = torch.randn(2, 3, 64, 64, device=gpu)
    compiled = torch.compile(network, fullgraph=True, dynamic=False)
    gradients = []
    for run in (network, compiled):
        network.zero_grad()
        values = run(images)
        values = values.values() if isinstance(values, dict) else [values]
        sum(x.square().mean() for x in values).backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        )
    assert (gradients[0] - gradients[1]).norm() < 1e-2 * gradients[0].norm()
