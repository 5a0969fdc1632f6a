"""Running experiments with a stand-in for the training: resuming, failures, time, two runners."""

import ast
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.experiments import Scheduler, command
from benchmarks.experiments.results import read_results
from benchmarks.experiments.run_folder import RunFolder
from benchmarks.experiments.scheduler import exit_status
from unet_sharp_det.errors import ConfigError
from unet_sharp_det.provenance import git_state

LONG = {"SOLVER.MAX_ITER": 100}  # two seconds
LONG_SUM = sum(range(100))
UNETSHARP = "DSB2018-SemanticSegmentation/compact/unetsharp.yaml"
DS = {"MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION": "all"}


def record(folder, run, seed=0):
    return json.loads((folder / run / f"seed{seed}" / "run.json").read_text())


def value(experiment, folder, run, seed=0):
    result = read_results(experiment, folder, folder / "none")[run, seed]
    return result["metrics"]["sem_seg/IoU_image_mean"]


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def start_runner(tmp_path, stand_in):
    """A function (experiment, **options) that starts a runner process in tmp_path / runs."""
    started = []

    def run(experiment, options):
        counts = Scheduler(experiment, tmp_path / "runs", stand_in, **options).run()
        sys.exit(exit_status(counts))

    def start(experiment, **options):
        context = multiprocessing.get_context("fork")  # Another start would import torch again.
        started.append(context.Process(target=run, args=(experiment, options)))
        started[-1].start()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.join()


def status_of(runner):
    runner.join(60)
    return runner.exitcode


def test_all_runs_finish_and_are_skipped_the_next_time(load_experiment, stand_in, tmp_path):
    experiment = load_experiment()
    assert Scheduler(experiment, tmp_path, stand_in, jobs=2).run() == {"finished": 4}
    assert value(experiment, tmp_path, "unetpp", seed=1) == 2 * sum(range(10))
    first = record(tmp_path, "unet")
    assert first["git"] == [git_state()]
    assert first["cost"]["cpu_s"] > 0
    assert first["cost"]["peak_memory_mib"] > 1
    folder = tmp_path / "unet" / "seed0"
    assert [path.name for path in folder.glob("*.pth")] == ["model_final.pth"]
    assert Scheduler(experiment, tmp_path, stand_in).run() == {"finished": 4}
    assert record(tmp_path, "unet") == first


def test_a_failure_is_recorded_and_the_rest_goes_on(load_experiment, stand_in, tmp_path):
    unet = "DSB2018-SemanticSegmentation/compact/unet.yaml"
    runs = {"bad": {"config": unet, "opts": {"SOLVER.OPTIMIZER": "Adam"}}, "good": {"config": unet}}
    experiment = load_experiment(runs, seeds=[0])
    counts = Scheduler(experiment, tmp_path, stand_in).run()
    assert counts == {"failed": 1, "finished": 1}
    assert exit_status(counts) == 1
    error = record(tmp_path, "bad")["error"]
    assert error.startswith("exit status 1\n")
    assert error.endswith("ValueError: no such data")
    good = record(tmp_path, "good")
    Scheduler(experiment, tmp_path, stand_in).run()
    log = (tmp_path / "bad" / "seed0" / "process.log").read_text()
    assert log.count("ValueError: no such data") == 2
    assert record(tmp_path, "good") == good


def test_an_evaluation_follows_the_training_whose_weights_it_takes(
    load_experiment, stand_in, tmp_path, caplog
):
    options = {"TEST.PRUNE_TO_LEVEL": 2, "MODEL.SEM_SEG_HEAD.INFERENCE": "fast"}
    level = {"config": UNETSHARP, "opts": {**options, **DS}, "evaluates": "whole"}
    runs = {"L2": level, "whole": {"config": UNETSHARP, "opts": DS}}
    experiment = load_experiment(runs, seeds=[0])
    assert Scheduler(experiment, tmp_path, stand_in, jobs=2).run() == {"finished": 2}
    assert value(experiment, tmp_path, "L2") == pytest.approx(sum(range(10)) / 100)

    shutil.rmtree(tmp_path / "whole")
    experiment = load_experiment(runs, seeds=[0], opts={"SOLVER.MAX_ITER": 20})
    folder = RunFolder(tmp_path, "L2", 0)
    settings = {**folder.record["config"], "SOLVER.MAX_ITER": "20"}
    folder.write_record({**folder.record, "config": settings})
    assert Scheduler(experiment, tmp_path, stand_in, runs=["L2"]).run() == {"finished": 1}
    assert Scheduler(experiment, tmp_path, stand_in, runs=["whole"]).run() == {"finished": 1}
    assert list(read_results(experiment, tmp_path, "")) == [("whole", 0)]
    assert "evaluated other weights of whole" in caplog.text
    assert Scheduler(experiment, tmp_path, stand_in).run() == {"finished": 2}
    assert value(experiment, tmp_path, "L2") == pytest.approx(sum(range(20)) / 100)


def test_an_evaluation_waits_for_its_training(load_experiment, stand_in, tmp_path):
    options = {"TEST.PRUNE_TO_LEVEL": 2, "MODEL.SEM_SEG_HEAD.INFERENCE": "fast"}
    level = {"config": UNETSHARP, "opts": {**options, **DS}, "evaluates": "whole"}
    experiment = load_experiment(
        {"L2": level, "whole": {"config": UNETSHARP, "opts": DS}}, seeds=[0]
    )
    assert Scheduler(experiment, tmp_path, stand_in, runs=["L2"]).run() == {"waiting": 1}


def test_metrics_that_were_deleted_or_damaged_are_made_again(load_experiment, stand_in, tmp_path):
    experiment = load_experiment(seeds=[0])
    Scheduler(experiment, tmp_path, stand_in).run()
    metrics = tmp_path / "unet" / "seed0" / "inference" / "semantic_metrics.json"
    metrics.write_text('{"metr')
    other = record(tmp_path, "unetpp")
    assert Scheduler(experiment, tmp_path, stand_in, minutes=2).run() == {"finished": 2}
    assert json.loads(metrics.read_text())["metrics"]["IoU_image_mean"] == sum(range(10))
    assert record(tmp_path, "unetpp") == other


def test_a_killed_process_goes_on_the_next_time(load_experiment, start_runner, tmp_path, stand_in):
    experiment = load_experiment(opts=LONG, seeds=[0])
    runner, runs = start_runner(experiment), tmp_path / "runs"
    checkpoint = runs / "unet" / "seed0" / "last_checkpoint"
    wait_for(checkpoint.is_file)
    tasks = Path(f"/proc/{runner.pid}/task").glob("*/children")
    children = " ".join(task.read_text() for task in tasks).split()
    os.kill(int(children[0]), signal.SIGKILL)
    assert status_of(runner) == 1
    assert record(runs, "unet")["status"] == "failed"
    assert record(runs, "unetpp")["status"] == "finished"
    assert Scheduler(experiment, runs, stand_in).run() == {"finished": 2}
    log = (runs / "unet" / "seed0" / "process.log").read_text().splitlines()
    assert int(log[-1].split()[-1]) >= 5
    assert value(experiment, runs, "unet") == LONG_SUM == value(experiment, runs, "unetpp")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly(load_experiment, start_runner, tmp_path, number, stand_in):
    experiment = load_experiment(opts=LONG, seeds=[0])
    runner, runs = start_runner(experiment), tmp_path / "runs"
    wait_for((runs / "unet" / "seed0" / "last_checkpoint").is_file)
    os.kill(runner.pid, number)
    assert status_of(runner) == 75
    assert record(runs, "unet")["status"] == "stopped"
    assert not (runs / "unetpp").exists()
    assert Scheduler(experiment, runs, stand_in).run() == {"finished": 2}
    assert value(experiment, runs, "unet") == LONG_SUM


def test_a_second_signal_kills(load_experiment, start_runner, tmp_path, monkeypatch, stand_in):
    monkeypatch.setenv("STAND_IN_SECONDS", "20")
    runner, runs = start_runner(load_experiment(seeds=[0])), tmp_path / "runs"
    log = runs / "unet" / "seed0" / "process.log"
    wait_for(lambda: log.is_file() and "Starting" in log.read_text())
    os.kill(runner.pid, signal.SIGINT)
    time.sleep(0.3)
    assert runner.is_alive()
    os.kill(runner.pid, signal.SIGINT)
    assert status_of(runner) == 75
    assert record(runs, "unet")["status"] == "stopped"


def test_minutes_end_with_a_checkpoint(load_experiment, stand_in, tmp_path):
    experiment = load_experiment(opts={"SOLVER.MAX_ITER": 400}, seeds=[0])
    begin = time.monotonic()
    counts = Scheduler(experiment, tmp_path, stand_in, minutes=1.5 / 60).run()
    assert 1.5 < time.monotonic() - begin < 5
    assert counts == {"stopped": 1, "waiting": 1}
    assert exit_status(counts) == 75
    checkpoints = [path.name for path in (tmp_path / "unet" / "seed0").glob("*.pth")]
    assert checkpoints == [(tmp_path / "unet" / "seed0" / "last_checkpoint").read_text()]


def test_two_runners_share_the_runs(load_experiment, start_runner, tmp_path):
    experiment = load_experiment(opts={"SOLVER.MAX_ITER": 50})
    runners = [start_runner(experiment) for _ in range(2)]
    assert {status_of(runner) for runner in runners} <= {0, 75}
    for run, seed in itertools.product(("unet", "unetpp"), (0, 1)):
        assert record(tmp_path / "runs", run, seed)["status"] == "finished"
        log = tmp_path / "runs" / run / f"seed{seed}" / "process.log"
        assert log.read_text().count("Starting training") == 1


def test_nobody_begins_what_a_killed_runner_s_process_still_runs(
    load_experiment, start_runner, tmp_path, stand_in
):
    experiment = load_experiment(opts=LONG, seeds=[0])
    runner, runs = start_runner(experiment), tmp_path / "runs"
    folder = runs / "unet" / "seed0"
    wait_for((folder / "last_checkpoint").is_file)
    runner.kill()
    status_of(runner)
    counts = Scheduler(experiment, runs, stand_in, runs=["unet"]).run()
    assert counts == {"running": 1}
    wait_for((folder / "inference" / "speed.json").is_file)
    lock_of = RunFolder(runs, "unet", 0).lock
    wait_for(lambda: not (lock := lock_of()).closed and lock.close() is None)
    assert Scheduler(experiment, runs, stand_in, runs=["unet"]).run() == {"finished": 1}
    assert value(experiment, runs, "unet") == LONG_SUM
    assert "cpu_s" not in read_results(experiment, runs, "")["unet", 0]["cost"]


def test_a_changed_config_of_a_started_run_is_an_error(load_experiment, stand_in, tmp_path):
    Scheduler(load_experiment(seeds=[0]), tmp_path / "runs", stand_in).run()
    changed = load_experiment(opts={"SOLVER.MAX_ITER": 10, "SOLVER.BASE_LR": 0.5}, seeds=[0, 1])
    with pytest.raises(ConfigError, match=r"SOLVER\.BASE_LR: was 0\.01, now 0\.5"):
        Scheduler(changed, tmp_path / "runs", stand_in)
    assert not (tmp_path / "runs" / "unet" / "seed1").exists()


class TestDevices:
    def used(self, folder, name):
        logs = folder.rglob("process.log")
        return {ast.literal_eval(log.read_text().splitlines()[0])[name] for log in logs}

    def test_each_process_has_a_gpu_of_those_that_are_visible(
        self, load_experiment, stand_in, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
        Scheduler(load_experiment(), tmp_path, stand_in).run()
        assert self.used(tmp_path, "CUDA_VISIBLE_DEVICES") == {"3", "5"}

    def test_runs_beside_each_other_on_a_gpu_share_the_cores(
        self, load_experiment, stand_in, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(16))
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        Scheduler(load_experiment(), tmp_path, stand_in, jobs=4).run()
        assert self.used(tmp_path, "CUDA_VISIBLE_DEVICES") == {"0"}
        assert self.used(tmp_path, "OMP_NUM_THREADS") == {"4"}

    def test_runs_on_the_cpu_take_no_gpu_and_turns(
        self, load_experiment, stand_in, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        options = {"SOLVER.MAX_ITER": 10, "MODEL.DEVICE": "cpu"}
        Scheduler(load_experiment(opts=options), tmp_path, stand_in).run()
        assert self.used(tmp_path, "OMP_NUM_THREADS") == {"8"}

    def test_processes_share_the_cores(self, load_experiment, stand_in, tmp_path, monkeypatch):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        Scheduler(load_experiment(), tmp_path, stand_in, jobs=2).run()
        assert self.used(tmp_path, "OMP_NUM_THREADS") == {"4"}
        assert " 4 threads" in record(tmp_path, "unet")["environment"]["machine"]


def test_the_command_line(write_experiment, stand_in, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "TRAIN_SCRIPT", stand_in)
    monkeypatch.setattr(command, "setup_logger", lambda **_: None)  # It would blind later tests.
    path, zoo = str(write_experiment()), tmp_path / "EXPERIMENTS.md"
    folder = ["--folder", str(tmp_path / "runs")]
    assert command.main([path, *folder, "--runs", "unet", "--seeds", "1"]) == 0
    assert "small: 1 finished" in capsys.readouterr().out
    assert command.main([path, *folder, "--table", "--output", str(zoo)]) == 0
    assert "90.00 (1 seed)" in zoo.read_text()
    assert (tmp_path / "results" / "small" / "unet" / "seed1.json").is_file()
    with pytest.raises(ConfigError, match="Did you mean 'unetpp'"):
        command.main([path, *folder, "--runs", "unetp"])
    with pytest.raises(ConfigError, match=r"seed: '7' is not known. Available: 0, 1"):
        command.main([path, *folder, "--seeds", "7"])


def test_a_job_runs_the_experiment(write_experiment, stand_in, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "TRAIN_SCRIPT", stand_in)
    monkeypatch.setattr(command, "setup_logger", lambda **_: None)
    submitted = []
    monkeypatch.setattr(command, "submit", lambda *job, per_gpu: submitted.append((*job, per_gpu)))
    arguments = [str(write_experiment()), "--folder", str(tmp_path / "runs"), "--seeds", "1"]
    assert command.main([*arguments, "--slurm", "time=60"]) == 0
    assert capsys.readouterr().out == ""
    ((function, args, *rest),) = submitted
    assert rest == ["time=60", tmp_path / "runs" / "slurm", False]
    assert function(args) == 0
    assert "small: 2 finished" in capsys.readouterr().out
