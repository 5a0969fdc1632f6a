"""The moving average of the weights: its value, what evaluations see, and a resumed run."""

import pytest
import torch
from detectron2.engine import HookBase, TrainerBase, hooks
from torch import nn

from unet_sharp_det.checkpoints.loading import SkipCheckpointer
from unet_sharp_det.errors import ConfigError
from unet_sharp_det.training.averaging import WeightAverage

DECAY = 0.5  # Reached at iteration 8: (1 + 8) / (10 + 8).


class Recorder(HookBase):
    """What hooks behind the average see of the network, after each step."""

    def __init__(self):
        self.seen = []

    def after_step(self):
        self.seen.append(self.trainer.model.weight.item())


class CountingTrainer(TrainerBase):
    """Adds 1 to the only weight in each iteration; a checkpoint after each."""

    def __init__(self, folder):
        super().__init__()
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)
        self.recorder = Recorder()
        self.checkpointer = SkipCheckpointer(self.model, str(folder), trainer=self)
        periodic = hooks.PeriodicCheckpointer(self.checkpointer, 1)
        self.register_hooks([WeightAverage(self.model, DECAY), self.recorder, periodic])

    def run_step(self):
        with torch.no_grad():
            self.model.weight += 1


def expected(iterations):
    average, seen = 0.0, []
    for step in range(iterations):
        decay = min(DECAY, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * (step + 1)
        seen.append(average)
    return seen


def test_evaluations_and_checkpoints_get_the_average(tmp_path):
    trainer = CountingTrainer(tmp_path)
    trainer.train(0, 12)
    assert trainer.recorder.seen == pytest.approx(expected(12))
    saved = torch.load(tmp_path / "model_0000011.pth", weights_only=True)["model"]
    assert saved["weight"].item() == pytest.approx(expected(12)[-1])


def test_a_resumed_run_goes_on_with_the_trained_weights(tmp_path):
    CountingTrainer(tmp_path).train(0, 5)
    resumed = CountingTrainer(tmp_path)
    resumed.checkpointer.resume_or_load("", resume=True)
    resumed.train(5, 12)
    assert resumed.recorder.seen == pytest.approx(expected(12)[5:])


@pytest.mark.parametrize("decay", [1.0, -0.1, 2])
def test_a_decay_that_is_none(decay):
    with pytest.raises(ConfigError, match="EMA_DECAY .* is"):
        WeightAverage(nn.Linear(1, 1), decay)
