"""SIGTERM stops a training at a checkpoint, and with REPLAYABLE the rest goes on exactly."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from unet_sharp_det.engine import STOPPED_STATUS

INSTANT = "configs/quick_schedules/mask_rcnn_lite0_fpn_instant_test.yaml"
OPTIONS = ["SEED", "3", "DATALOADER.REPLAYABLE", "True", "TEST.VALIDATION_LOSS", "False"]
OPTIONS += ["SOLVER.MAX_ITER", "8", "SOLVER.CHECKPOINT_PERIOD", "100", "MODEL.DEVICE", "cpu"]


@pytest.fixture
def start_training(environment, repository):
    """A function (folder, *flags) that starts tools/train_net.py; its output is in folder / log."""
    started = []

    def start(folder, *flags):
        folder.mkdir(exist_ok=True)
        command = [sys.executable, repository / "tools" / "train_net.py", *flags]
        command += ["--config-file", repository / INSTANT, "OUTPUT_DIR", folder, *OPTIONS]
        with open(folder / "log", "w") as log:
            command = list(map(str, command))
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(text, path, process):
    end = time.monotonic() + 120
    while text not in path.read_text():
        assert process.poll() is None, path.read_text()[-3000:]
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stopped_training_ends_as_one_that_was_not(start_training, tmp_path, workers):
    flags = ["--resume"] if workers == 1 else ["--resume", "--num-gpus", "2", "--dist-url", "auto"]
    run = start_training(tmp_path / "stopped", *flags)
    wait_for("Starting training", tmp_path / "stopped" / "log", run)
    os.kill(run.pid, signal.SIGTERM)
    assert run.wait(120) == STOPPED_STATUS, (tmp_path / "stopped" / "log").read_text()[-3000:]
    assert not (tmp_path / "stopped" / "model_final.pth").exists()
    stopped_at = int((tmp_path / "stopped" / "last_checkpoint").read_text()[6:-4])
    assert stopped_at < 7

    run = start_training(tmp_path / "stopped", *flags)
    assert run.wait(240) == 0, (tmp_path / "stopped" / "log").read_text()[-3000:]
    assert f"iteration {stopped_at + 1}" in (tmp_path / "stopped" / "log").read_text()
    if workers == 2:
        return
    assert start_training(tmp_path / "whole").wait(240) == 0
    stopped, whole = (torch.load(tmp_path / n / "model_final.pth") for n in ("stopped", "whole"))
    assert stopped["iteration"] == whole["iteration"] == 7
    for name, value in whole["model"].items():
        assert torch.equal(value, stopped["model"][name]), name
    for name in ("stopped", "whole"):
        assert (tmp_path / name / "inference" / "speed.json").is_file()


def test_sigterm_before_the_training_and_in_the_evaluation_at_once(start_training, tmp_path):
    run = start_training(tmp_path)
    wait_for("Environment info", tmp_path / "log", run)
    run.send_signal(signal.SIGTERM)
    assert run.wait(60) == STOPPED_STATUS
    assert not list(tmp_path.glob("*.pth"))
