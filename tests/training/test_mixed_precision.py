"""Mixed precision: who trains in what, and on which device."""

import copy

import pytest
import torch
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import nn

from unet_sharp_det.errors import ConfigError
from unet_sharp_det.training import (
    choose_trainer,
    fall_back_to_cpu,
    load_lazy_cfg,
    mixed_precision,
    setup_cfg,
)

LAZY = "configs/LazyConfigs/mask_rcnn_R_50_unetsharp.py"


def fallen_back(precision, enabled="True"):
    """The config on a CPU."""
    options = ["MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", enabled]
    cfg = setup_cfg("", [*options, "SOLVER.AMP.PRECISION", precision])
    fall_back_to_cpu(cfg)
    return cfg


@pytest.fixture(params=[True, False])
def native(request, monkeypatch):
    """Whether the CPU has bfloat16."""
    monkeypatch.setattr(mixed_precision, "has_bfloat16", lambda device: request.param)
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
        assert "fp16 needs a CUDA device: training in float32" in caplog.text

    def test_bf16_needs_a_cpu_that_has_it(self, native, caplog):
        assert fallen_back("bf16").SOLVER.AMP.ENABLED == native
        assert ("cpu device does not compute bf16" in caplog.text) != native

    def test_of_a_lazy_config(self, native, repository, caplog):
        options = ["train.device=cpu", "train.amp.enabled=True"]
        config_file = str(repository / LAZY)
        assert not load_lazy_cfg(config_file, options).train.amp.enabled
        assert "train.amp: fp16 needs" in caplog.text
        cfg = load_lazy_cfg(config_file, [*options, "train.amp.precision=bf16"])
        assert cfg.train.amp.enabled == native
        with pytest.raises(ConfigError, match="train.amp.precision.*Did you mean 'bf16'"):
            load_lazy_cfg(config_file, [*options, "train.amp.precision=bf1"])

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
