"""Mixed precision: who trains in what, and on which device."""

import copy
import importlib

import pytest
import torch
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import nn

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import ConfigError
from unet_sharp_det.runtime import fall_back_to_cpu
from unet_sharp_det.training import (
    choose_trainer,
)

device_module = importlib.import_module("unet_sharp_det.runtime.device")


def fallen_back(precision, enabled="True", device="cpu"):
    options = ["MODEL.DEVICE", device, "SOLVER.AMP.ENABLED", enabled]
    cfg = setup_cfg("", [*options, "SOLVER.AMP.PRECISION", precision])
    fall_back_to_cpu(cfg)
    return cfg


@pytest.fixture(params=[True, False])
def native(request, monkeypatch):
    """Whether the CPU has bfloat16."""
    monkeypatch.setattr(device_module, "has_bfloat16", lambda device: request.param)
    return request.param


class Dtypes(nn.Module):
    """Returns the dtype that its matrix product has."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x, fails=False):
        if fails:
            raise ValueError
        return self.linear(x).dtype


class TestFallback:
    def test_fp16_needs_a_gpu(self, caplog):
        assert not fallen_back("fp16").SOLVER.AMP.ENABLED
        assert "cpu cannot train in fp16: training in float32" in caplog.text

    def test_bf16_needs_a_cpu_that_has_it(self, native, caplog):
        assert fallen_back("bf16").SOLVER.AMP.ENABLED == native
        assert ("cpu cannot train in bf16" in caplog.text) != native

    def test_unknown_device(self):
        with pytest.raises(ConfigError, match="MODEL.DEVICE: 'gpu' is no device"):
            fallen_back("bf16", "False", device="gpu")

    @pytest.mark.parametrize("enabled", ["True", "False"])
    def test_unknown_precision(self, enabled):
        with pytest.raises(ConfigError, match="SOLVER.AMP.PRECISION.*Did you mean 'bf16'"):
            fallen_back("bf1", enabled)


class TestTrainer:
    def test_detectron2s_own(self):
        assert choose_trainer(None, Dtypes(), "cpu") is SimpleTrainer
        assert choose_trainer("fp16", Dtypes(), "cuda") is AMPTrainer

    def test_bfloat16_in_training_only(self):
        model, x = Dtypes(), torch.ones(1, 2)
        assert choose_trainer("bf16", model, "cpu") is SimpleTrainer
        assert model.train()(x) is torch.bfloat16
        assert model.eval()(x) is torch.float32
        assert copy.deepcopy(model).train()(x) is torch.bfloat16
        assert not torch.is_autocast_enabled("cpu")

    def test_an_error_in_the_model_ends_it(self):
        model = Dtypes()
        choose_trainer("bf16", model, "cpu")
        with pytest.raises(ValueError):
            model.train()(torch.ones(1, 2), fails=True)
        assert not torch.is_autocast_enabled("cpu")
