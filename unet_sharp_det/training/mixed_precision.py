"""Training in half precision: detectron2's AMP, and bfloat16, which CPUs compute too."""

import torch
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import nn


def choose_trainer(precision: str | None, model: nn.Module, device: str) -> type[SimpleTrainer]:
    """Return detectron2's trainer for "fp16", "bf16" or None, float32, and prepare the model, which
    is not yet wrapped. bfloat16, whose losses need no scaling, is computed on CPUs too."""
    if precision == "fp16":
        return AMPTrainer
    if precision == "bf16":
        autocast = _AutocastInTraining(device)
        model.register_forward_pre_hook(autocast.enter)
        model.register_forward_hook(autocast.exit, always_call=True)
    return SimpleTrainer


class _AutocastInTraining:
    """Hooks that run a model in bfloat16 while it is in training mode."""

    def __init__(self, device: str):
        self._autocast = torch.autocast(torch.device(device).type, torch.bfloat16)

    def enter(self, model: nn.Module, inputs) -> None:
        if model.training:
            self._autocast.__enter__()

    def exit(self, model: nn.Module, inputs, output) -> None:
        if model.training:
            self._autocast.__exit__(None, None, None)
