"""Tiny networks with statistics and biases of their own, and their checkpoints."""

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from unet_sharp_det.checkpoints.loading import SkipCheckpointer
from unet_sharp_det.config import setup_cfg

HEAD = "MODEL.SEM_SEG_HEAD"


@pytest.fixture(scope="session")
def semantic_config(repository):
    """A function (*options, levels=3) that gives the config of a tiny semantic network."""
    path = repository / "configs/quick_schedules/unetsharp_cgm_instant_test.yaml"

    def setup(*options, levels=3):
        sizes = [
            *("MODEL.DEVICE", "cpu", "MODEL.UNET.CHANNELS", str([4, 6, 8, 10, 12][:levels])),
            *("MODEL.UNET.NORM", "BN", f"{HEAD}.NORM", "BN"),
            *(f"{HEAD}.IN_FEATURES", str([f"res{i}" for i in range(levels)])),
        ]
        return setup_cfg(str(path), [*sizes, *options])

    return setup


@pytest.fixture(scope="session")
def trained():
    """A function (config) that gives a network in eval mode which is not a fresh one."""

    def build(cfg):
        torch.manual_seed(0)
        model = build_model(cfg)
        head = model.sem_seg_head
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = None  # the statistics of what follows, and nothing of a fresh one
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.rand_like(parameter))
            features = model.backbone(torch.rand(4, 3, 32, 32) * 2 - 1)
            head.decoder([features[name] for name in head.in_features])
            for module in head.decoder.cgm.values():
                module.classifier[-1].bias.copy_(torch.tensor([-99.0, 99.0]))
        return model.eval()

    return build


@pytest.fixture
def checkpoint(tmp_path):
    """A function (model, config) that saves both as a training does."""

    def save(model, cfg):
        SkipCheckpointer(model, str(tmp_path)).save("model_final")
        (tmp_path / "config.yaml").write_text(cfg.dump())
        return tmp_path / "model_final.pth"

    return save
