"""Training in half precision: detectron2's AMP, and bfloat16, which CPUs compute too."""

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import nn

from ..errors import ConfigError, look_up_option
from ..runtime import has_bfloat16

PRECISIONS = ("fp16", "bf16")


def unavailable_precision(cfg: CfgNode) -> str | None:
    """Say why ``SOLVER.AMP`` cannot be had on ``MODEL.DEVICE``; None: it can, or is off.

    Raises:
        ConfigError: ``SOLVER.AMP.PRECISION`` is unknown.
    """
    precision, device = cfg.SOLVER.AMP.PRECISION, torch.device(cfg.MODEL.DEVICE)
    look_up_option(precision, PRECISIONS, "SOLVER.AMP.PRECISION", ConfigError)
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    if precision == "fp16":
        return None if device.type == "cuda" else "fp16 needs a CUDA device"
    return None if has_bfloat16(device) else f"this {device.type} device does not compute in bf16"


def choose_trainer(cfg: CfgNode, model: nn.Module) -> type[SimpleTrainer]:
    """Return detectron2's trainer for ``SOLVER.AMP``, and prepare the model for it.

    bfloat16 has the exponents of float32, so that its losses need no scaling: SimpleTrainer runs
    it, on CPUs too.
    """
    if not cfg.SOLVER.AMP.ENABLED:
        return SimpleTrainer
    if cfg.SOLVER.AMP.PRECISION == "fp16":
        return AMPTrainer
    _TrainInBFloat16(cfg.MODEL.DEVICE).attach(model)
    return SimpleTrainer


class _TrainInBFloat16:
    """Hooks that run a model under autocast while it is in training mode."""

    def __init__(self, device: str):
        self._autocast = torch.autocast(torch.device(device).type, torch.bfloat16)

    def attach(self, model: nn.Module) -> None:
        model.register_forward_pre_hook(self._enter)
        model.register_forward_hook(self._exit, always_call=True)

    def _enter(self, model: nn.Module, inputs) -> None:
        if model.training:
            self._autocast.__enter__()

    def _exit(self, model: nn.Module, inputs, output) -> None:
        if model.training:
            self._autocast.__exit__(None, None, None)
