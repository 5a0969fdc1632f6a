"""Training in half precision: detectron2's AMP, and bfloat16, which CPUs compute too."""

import torch
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import nn

from ..errors import ConfigError, look_up_option
from ..runtime import has_bfloat16

PRECISIONS = ("fp16", "bf16")


def lacks_precision(precision: str, device: str, option: str = "SOLVER.AMP.PRECISION") -> str:
    """Say why a device cannot train in a precision; "" if it can.

    Args:
        precision: one of ``PRECISIONS``.
        device: e.g. ``cpu`` or ``cuda:1``.
        option: what the error names.

    Raises:
        ConfigError: the precision is unknown.
    """
    look_up_option(precision, PRECISIONS, option, ConfigError)
    kind = torch.device(device).type
    if precision == "fp16":
        return "" if kind == "cuda" else "fp16 needs a CUDA device"
    return "" if has_bfloat16(torch.device(device)) else f"this {kind} device does not compute bf16"


def choose_trainer(precision: str | None, model: nn.Module, device: str) -> type[SimpleTrainer]:
    """Return detectron2's trainer for a precision, and prepare the model for it.

    bfloat16 has the exponents of float32, so that its losses need no scaling: SimpleTrainer runs
    it, on CPUs too.

    Args:
        precision: one of ``PRECISIONS``; None: float32.
        model: not yet wrapped for several processes.
        device: that it is on.
    """
    if precision is None:
        return SimpleTrainer
    if precision == "fp16":
        return AMPTrainer
    _TrainInBFloat16(device).attach(model)
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
