"""The moving average of a network's weights, which does better than the last ones."""

import copy

import torch
from detectron2.engine import HookBase
from torch import nn

from ..errors import ConfigError


class WeightAverage(HookBase):
    """Outside of the training steps, the network holds the exponential moving average of its
    weights: evaluations and checkpoints get it. A resumed run goes on with the trained weights,
    which the hook's state keeps.

    To be registered before hooks that use the network. Polyak and Juditsky, 1992; the decay grows
    from .1 to its value, as in TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, model: nn.Module, decay: float):
        """
        Args:
            decay: what stays of the average at each iteration, above 0 and below 1.
        """
        if not 0 < decay < 1:
            raise ConfigError(
                f"SOLVER.EMA_DECAY (LazyConfig: train.ema_decay) is {decay}. Give a number from 0 "
                "(no average) to below 1, e.g. 0.999."
            )
        self._model = model
        self._decay = decay
        self._other: nn.Module | None = None
        self._restored: dict | None = None

    def before_train(self) -> None:
        self._other = copy.deepcopy(self._model)
        if self._restored:
            self._other.load_state_dict(self._restored)

    def before_step(self) -> None:
        self._exchange()

    @torch.no_grad()
    def after_step(self) -> None:
        decay = min(self._decay, (1 + self.trainer.iter) / (10 + self.trainer.iter))
        torch._foreach_lerp_(_floats(self._other), _floats(self._model), 1 - decay)
        self._exchange()

    def state_dict(self) -> dict:
        return {"trained": self._other.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self._restored = state["trained"]

    def _exchange(self) -> None:
        for mine, other in zip(_floats(self._model), _floats(self._other), strict=True):
            mine.data, other.data = other.data, mine.data


def _floats(model: nn.Module) -> list[torch.Tensor]:
    tensors = [*model.parameters(), *model.buffers()]
    return [tensor for tensor in tensors if tensor.is_floating_point()]
