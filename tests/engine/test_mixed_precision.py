"""SOLVER.AMP: who trains in what, and on which device."""

import copy

import pytest
import torch
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import nn

from unet_sharp_det.engine import fall_back_to_cpu, mixed_precision, setup_cfg
from unet_sharp_det.errors import ConfigError


def config(**amp):
    options = ["MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "True"]
    return setup_cfg(
        "", options + [part for k, v in amp.items() for part in (f"SOLVER.AMP.{k}", v)]
    )


@pytest.fixture
def native(monkeypatch):
    monkeypatch.setattr(mixed_precision, "has_bfloat16", lambda device: True)


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
        cfg = config()
        fall_back_to_cpu(cfg)
        assert not cfg.SOLVER.AMP.ENABLED
        assert "fp16 needs a CUDA device: training in float32" in caplog.text

    def test_bf16_needs_a_cpu_that_has_it(self, monkeypatch, caplog):
        monkeypatch.setattr(mixed_precision, "has_bfloat16", lambda device: False)
        cfg = config(PRECISION="bf16")
        fall_back_to_cpu(cfg)
        assert not cfg.SOLVER.AMP.ENABLED
        assert "cpu device does not compute in bf16" in caplog.text

    def test_bf16_stays_on_a_cpu_that_has_it(self, native):
        cfg = config(PRECISION="bf16")
        fall_back_to_cpu(cfg)
        assert cfg.SOLVER.AMP.ENABLED

    @pytest.mark.parametrize("enabled", ["True", "False"])
    def test_unknown_precision(self, enabled):
        with pytest.raises(ConfigError, match="SOLVER.AMP.PRECISION.*Did you mean 'bf16'"):
            fall_back_to_cpu(config(PRECISION="bf1", ENABLED=enabled))


class TestTrainer:
    def test_detectron2s_own(self):
        assert mixed_precision.choose_trainer(config(ENABLED="False"), None) is SimpleTrainer
        assert mixed_precision.choose_trainer(config(), None) is AMPTrainer

    def test_bfloat16_in_training_only(self, native):
        model, x = Dtypes(), torch.ones(1, 2)
        assert mixed_precision.choose_trainer(config(PRECISION="bf16"), model) is SimpleTrainer
        assert model.train()(x) is torch.bfloat16
        assert model.eval()(x) is torch.float32
        copied = copy.deepcopy(model).train()
        assert copied(x) is torch.bfloat16
        assert not torch.is_autocast_enabled("cpu")

    def test_an_error_in_the_model_ends_it(self, native):
        model = Dtypes()
        mixed_precision.choose_trainer(config(PRECISION="bf16"), model)
        with pytest.raises(ValueError):
            model.train()(torch.ones(1, 2), fails=True)
        assert not torch.is_autocast_enabled("cpu")
