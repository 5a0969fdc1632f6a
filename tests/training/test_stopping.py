"""SIGTERM stops a training at a checkpoint, and with REPLAYABLE the rest goes on exactly."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from detectron2.engine import HookBase, TrainerBase
from detectron2.engine.hooks import EvalHook
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from sigterm import SigtermAt

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.training import (
    STOPPED_STATUS,
    NucleiTrainer,
    StopOnSignal,
    exit_on_sigterm,
)

INSTANT = "configs/quick_schedules/mask_rcnn_lite0_fpn_instant_test.yaml"
OPTIONS = ["TEST.VALIDATION_LOSS", "False", "MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False"]


@pytest.fixture
def train(repository, register_part):
    """A function (folder, *hooks, resume=False) that trains 4 iterations; returns the weights."""
    name = register_part("four", lambda counts: sorted(counts, key=counts.get)[:4])

    def run(folder, *hooks, resume=False):
        folder.mkdir(exist_ok=True)
        options = ["SEED", "3", "DATALOADER.REPLAYABLE", "True", "OUTPUT_DIR", str(folder)]
        options += ["DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", "()"]
        options += ["SOLVER.CHECKPOINT_PERIOD", "100", *OPTIONS]
        seed_all_rng(3)
        trainer = NucleiTrainer(setup_cfg(str(repository / INSTANT), options))
        trainer.register_hooks([*hooks, StopOnSignal(trainer.checkpointer)])
        trainer.resume_or_load(resume=resume)
        trainer.train()
        return torch.load(folder / "model_final.pth")

    return run


def test_a_stopped_training_ends_as_one_that_was_not_bit_for_bit(train, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        train(tmp_path / "stopped", SigtermAt(1))
    assert stop.value.code == STOPPED_STATUS
    assert signal.getsignal(signal.SIGTERM) == before
    names = [path.name for path in (tmp_path / "stopped").glob("*.pth")]
    assert names == ["model_0000001.pth"]
    resumed = train(tmp_path / "stopped", resume=True)
    whole = train(tmp_path / "whole")
    assert resumed["iteration"] == whole["iteration"] == 3
    for name, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][name]), name


class StandIn:
    def __init__(self, iteration, max_iter=9):
        self.iter, self.max_iter, self.saved = iteration, max_iter, []
        self.start_iter = 0

    def save(self, name, iteration):
        self.saved.append((name, iteration))


def hook_of(trainer):
    hook = StopOnSignal(trainer)
    hook.trainer = trainer
    hook.before_train()
    return hook


def test_workers_stop_when_any_of_them_was_asked(monkeypatch):
    monkeypatch.setattr(comm, "all_gather", lambda own: [own, True])
    trainer = StandIn(4)
    hook = hook_of(trainer)
    with pytest.raises(SystemExit):
        hook.after_step()
    hook.after_train()
    assert trainer.saved == [("model_0000004", 4)]


class Training(TrainerBase):
    """Iterations of nothing, with an evaluation at the end that notes that it was reached."""

    def __init__(self, *hooks):
        super().__init__()
        self.saved, self.has_evaluated = [], False
        self.register_hooks([*hooks, EvalHook(0, self.evaluate), StopOnSignal(self)])

    def save(self, name, iteration):
        self.saved.append(name)

    def evaluate(self):
        self.has_evaluated = True

    def run_step(self):
        pass


class SigtermAtTheEnd(HookBase):
    def after_train(self):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("hook", "start"), [(SigtermAt(2), 0), (SigtermAtTheEnd(), 0), (SigtermAtTheEnd(), 3)]
)
def test_a_stop_leaves_out_the_evaluation_at_the_end(hook, start):
    previous = signal.getsignal(signal.SIGTERM)
    trainer = Training(hook)
    try:
        exit_on_sigterm()
        with pytest.raises(SystemExit) as stop:
            trainer.train(start, 3)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert stop.value.code == STOPPED_STATUS
    assert not trainer.has_evaluated
    assert not trainer.saved


def test_train_net_stops(environment, repository, tmp_path):
    command = [sys.executable, str(repository / "tools" / "train_net.py")]
    command += ["--config-file", str(repository / INSTANT), "OUTPUT_DIR", str(tmp_path), *OPTIONS]
    command += ["SOLVER.MAX_ITER", "1000", "SOLVER.CHECKPOINT_PERIOD", "1000"]
    log = tmp_path / "log"
    with open(log, "w") as file:
        run = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        end = time.monotonic() + 240
        while "Starting training" not in log.read_text():
            assert run.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < end
            time.sleep(0.02)
        run.send_signal(signal.SIGTERM)
        assert run.wait(120) == STOPPED_STATUS, log.read_text()[-3000:]
    finally:
        run.kill()
        run.wait()
    assert (tmp_path / (tmp_path / "last_checkpoint").read_text()).is_file()
    config = setup_cfg(str(tmp_path / "config.yaml"))
    assert config.INPUT.DIAMETER == 14.8  # of the sample's training
    assert "Traceback" not in log.read_text()
