"""What goes by a metric: the best checkpoint and early stopping, in trainings without a network."""

import contextlib
import math

import pytest
import torch
from detectron2.engine import HookBase, TrainerBase, hooks
from torch import nn

from unet_sharp_det.checkpoints.loading import SkipCheckpointer
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import ConfigError
from unet_sharp_det.training import EarlyStop, NucleiTrainer, build_validation_hooks
from unet_sharp_det.training.best_metric import full_name

NAN, INF = math.nan, math.inf


class Ends(HookBase):
    """Counts the calls of after_train."""

    count = 0

    def after_train(self):
        self.count += 1


class ScriptedTrainer(TrainerBase):
    """Trains nothing; every iteration finds the next of given values and writes a checkpoint."""

    def __init__(self, folder, values, metric="segm/AP", name=None, **options):
        super().__init__()
        self.values = values
        self.steps = 0
        self.checkpointer = SkipCheckpointer(nn.Linear(1, 1), str(folder), trainer=self)
        task, _, name = (name or metric).rpartition("/")
        self.ends = Ends()
        options.setdefault("validation_loss", dict)
        self.register_hooks(
            [
                hooks.EvalHook(1, lambda: {task: {name: self.values[self.steps - 1]}}),
                *build_validation_hooks(1, self.checkpointer, metric, **options),
                hooks.PeriodicCheckpointer(self.checkpointer, 1),
                self.ends,
            ]
        )

    def run_step(self):
        if self.iter == self.killed_at:
            raise KeyboardInterrupt
        self.steps = self.iter + 1

    def run(self, resume=False, killed_at=None):
        self.killed_at = killed_at
        self.checkpointer.resume_or_load("", resume=resume)
        start = self.iter + 1 if resume else 0
        killed = contextlib.nullcontext() if killed_at is None else pytest.raises(KeyboardInterrupt)
        with contextlib.suppress(EarlyStop), killed:
            self.train(start, len(self.values))
        return self


def iteration_of(folder, name):
    return torch.load(folder / f"{name}.pth")["iteration"]


@pytest.mark.parametrize(
    ("metric", "best"),
    [
        ("segm/AP", 4),
        ("validation/total_loss", 3),
        ("validation/lossy_set/total_loss", 3),
        ("lossy_set/segm/AP", 4),
        ("sem_seg/Error_pooled", 3),
        ("instances/DSB_score", 4),
        ("instances/merges", 3),
    ],
)
def test_best_is_largest_and_of_losses_and_errors_smallest(tmp_path, metric, best):
    ScriptedTrainer(tmp_path, [2.0, NAN, INF, 1.0, 3.0, 2.0, -INF], metric).run()
    assert iteration_of(tmp_path, "model_best") == best


def test_best_is_remembered_over_a_resume(tmp_path):
    values = [3.0, 1.0, 2.0, 4.0]
    ScriptedTrainer(tmp_path, values).run(killed_at=2)
    ScriptedTrainer(tmp_path, values).run(resume=True, killed_at=3)
    assert iteration_of(tmp_path, "model_best") == 0
    ScriptedTrainer(tmp_path, values).run(resume=True)
    assert iteration_of(tmp_path, "model_best") == 4  # After the last one.


def test_another_metric_on_resume_starts_anew(tmp_path):
    options = {"patience": 2}
    ScriptedTrainer(tmp_path, [3.0, 2.0, 1.0], **options).run(killed_at=2)
    values = [0.0, 0.0, 4.0, 5.0, 6.0, 7.0]
    second = ScriptedTrainer(tmp_path, values, "validation/total_loss", **options)
    second.run(resume=True)
    assert iteration_of(tmp_path, "model_best") == 2
    assert second.iter == 4


def test_unknown_metrics_are_named_at_the_first_evaluation(tmp_path):
    trainer = ScriptedTrainer(tmp_path, [1.0] * 3, "segm/AP5", name="segm/AP50")
    with pytest.raises(ConfigError, match=r"BEST_METRIC.*'segm/AP50'\? Available: segm/AP50"):
        trainer.run()
    assert trainer.steps == 1
    assert not (tmp_path / "model_best.pth").exists()


def test_training_losses_are_no_metrics(tmp_path):
    trainer = ScriptedTrainer(tmp_path, [1.0] * 3, "total_loss", name="validation/total_loss")
    trainer.run_step = lambda: trainer.storage.put_scalars(total_loss=1.0, **{"rpn/x": 1.0})
    with pytest.raises(ConfigError, match="Available: validation/total_loss."):
        trainer.run()


def test_without_any_metric_the_training_goes_on(tmp_path, caplog):
    trainer = ScriptedTrainer(tmp_path, [1.0] * 4, patience=1)
    trainer._hooks[0]._func = dict
    trainer.run()
    assert trainer.iter == 4
    assert "no metric was evaluated" in caplog.text
    assert not (tmp_path / "model_best.pth").exists()


@pytest.mark.parametrize(
    ("metric", "values", "min_delta", "stopped"),
    [
        ("segm/AP", [1.0, 2.0, 2.0, 1.0, 3.0], 0.0, 3),
        ("segm/AP", [1.0, 0.0, 2.0, 1.0, 3.0, 0.0], 0.0, None),
        ("segm/AP", [1.0, 1.5, 1.9, 3.0, 0.0], 1.0, 2),
        ("segm/AP", [NAN, NAN, 1.0, 2.0], 0.0, 1),
        ("segm/AP", [1.0, INF, INF, 2.0], 0.0, 2),
        ("validation/total_loss", [3.0, 2.0, 1.0, 1.0, 2.0, 0.0], 0.0, 4),
        ("segm/AP", [2.0, 1.0, 1.0], 0.0, None),  # The last one: nothing is left to stop.
    ],
)
def test_stops_after_two_evaluations_without_improvement(
    tmp_path, caplog, metric, values, min_delta, stopped
):
    caplog.set_level("INFO")
    trainer = ScriptedTrainer(tmp_path, values, metric, patience=2, min_delta=min_delta).run()
    assert trainer.ends.count == 1
    assert "Traceback" not in caplog.text
    if stopped is None:
        assert trainer.iter == len(values)
        assert iteration_of(tmp_path, "model_final") == len(values) - 1
        assert "Stopped early" not in caplog.text
    else:
        assert trainer.iter == stopped
        assert iteration_of(tmp_path, "model_final") == stopped
        assert f"Stopped early at iteration {stopped}" in caplog.text


@pytest.mark.parametrize("killed_at", [None, 1, 2, 3, 4])
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path, killed_at):
    """The checkpoint of an iteration knows what was evaluated at that iteration."""
    values = [0.50, 0.60, 0.55, 0.40, 0.30, 0.20, 0.70]
    trainer = ScriptedTrainer(tmp_path, values, patience=3).run(killed_at=killed_at)
    if killed_at is not None:
        trainer = ScriptedTrainer(tmp_path, values, patience=3).run(resume=True)
    assert trainer.iter == 4
    assert iteration_of(tmp_path, "model_best") == 1
    assert iteration_of(tmp_path, "model_final") == 4
    state = trainer.state_dict()["hooks"]["EarlyStopping"]
    assert torch.load(tmp_path / "model_final.pth")["trainer"]["hooks"]["EarlyStopping"] == state
    assert (state["best_value"], state["evaluations_since"]) == (0.60, 3)


def test_a_run_that_had_stopped_says_so(tmp_path, caplog):
    caplog.set_level("INFO")
    values = [5.0, 1.0, 1.0, 6.0]
    assert ScriptedTrainer(tmp_path, values, patience=1).run().iter == 1
    again = ScriptedTrainer(tmp_path, values, patience=1).run(resume=True)
    assert again.steps == 0
    assert again.ends.count == 1
    assert "Best segm/AP: 5 at iteration 0" in caplog.text
    assert "had stopped early" in caplog.text
    assert ScriptedTrainer(tmp_path, values, patience=3).run(resume=True).iter == len(values)


@pytest.mark.parametrize(
    ("metric", "period", "options", "message"),
    [
        ("segm/AP", 1, {"patience": -1}, "patience is -1"),
        ("segm/AP", 1, {"patience": 1, "min_delta": -0.5}, "improvement -0.5"),
        ("segm/AP", 1, {"patience": 1, "min_delta": NAN}, "improvement nan"),
        ("segm/AP", 0, {"patience": 1}, "EVAL_PERIOD.*now 0"),
        ("", 1, {"patience": 1}, "BEST_METRIC.*now ''"),
        ("validation/total_loss", 1, {}, "Set TEST.VALIDATION_LOSS"),
        ("instances/count_bias", 1, {}, "best at 0.*count_error"),
    ],
)
def test_unusable_values_are_named(tmp_path, metric, period, options, message):
    checkpointer = SkipCheckpointer(nn.Linear(1, 1), str(tmp_path))
    with pytest.raises(ConfigError, match=message):
        build_validation_hooks(period, checkpointer, metric, **options)


@pytest.mark.parametrize(
    ("metric", "of_one", "of_two"),
    [
        ("segm/AP", "segm/AP", "a/segm/AP"),
        ("b/segm/AP", "b/segm/AP", "b/segm/AP"),
        ("validation/total_loss", "validation/total_loss", "validation/a/total_loss"),
        ("validation/b/total_loss", "validation/b/total_loss", "validation/b/total_loss"),
        ("", "", ""),
    ],
)
def test_of_several_test_sets_the_first_one_counts(metric, of_one, of_two):
    assert full_name(metric, ["a"]) == of_one
    assert full_name(metric, ["a", "b"]) == of_two


def test_early_stopping_needs_test_data(monkeypatch):
    cfg = setup_cfg("", ["TEST.EARLY_STOPPING.PATIENCE", "2"])
    monkeypatch.setattr("detectron2.engine.DefaultTrainer.build_hooks", lambda self: [])
    trainer = NucleiTrainer.__new__(NucleiTrainer)
    trainer.cfg = cfg
    with pytest.raises(ConfigError, match=r"needs DATASETS\.TEST"):
        trainer.build_hooks()
