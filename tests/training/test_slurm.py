"""Jobs: what --slurm takes, and that a training that is interrupted goes on in the requeued job."""

import functools
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import torch

from unet_sharp_det import training
from unet_sharp_det.cli.train import main
from unet_sharp_det.errors import ConfigError, UserError
from unet_sharp_det.training.slurm import Requeued, parse_request, submit

INSTANT = "configs/quick_schedules/mask_rcnn_lite0_fpn_instant_test.yaml"
OPTIONS = ["MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False", "DATASETS.TEST", "()"]
OPTIONS += ["SOLVER.MAX_ITER", "8", "SOLVER.CHECKPOINT_PERIOD", "100"]


@pytest.fixture(autouse=True)
def keep_path(monkeypatch):
    """Undo what a submission sets."""
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))


def test_a_request_has_the_names_of_submitit():
    assert parse_request("nodes=2,gpus=8,time=60,mem=64,partition=a100,constraint=a&b") == {
        **{"nodes": 2, "gpus_per_node": 8, "timeout_min": 60, "mem_gb": 64},
        **{"slurm_partition": "a100", "slurm_constraint": "a&b"},
    }


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("node=2,time=60", "Did you mean 'nodes'"),
        ("", "--slurm: '' is not known"),
        ("gpus=2", "needs a limit of 5 minutes or more"),
        ("time=2", "needs a limit of 5 minutes or more"),
        ("time=1:00:00", "'time=1:00:00' has no value of its kind"),
        ("time=60,gpus=0", "'gpus=0' has no value"),
        ("time=60,partition", "'partition' has no value"),
    ],
)
def test_a_malformed_request_is_told(request_, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_request(request_)


def test_a_machine_without_slurm_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="There is no srun on this machine"):
        submit(print, "", "time=60", tmp_path, per_gpu=True)


def test_a_job_that_slurm_refuses_is_told(tmp_path, monkeypatch):
    for name in ("srun", "sbatch"):
        script = tmp_path / name
        script.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(UserError, match=r"refuses the job \(sbatch: error: invalid partition\)"):
        submit(print, "", "time=60", tmp_path, per_gpu=True)


def run_until_sigterm(ready):
    """Stop as a training does."""
    ready.set()
    try:
        time.sleep(20)
    except SystemExit as stop:
        return stop.code


@pytest.fixture
def process_of_a_job():
    """A function (function) that runs it in a process as a job does."""
    context, started = multiprocessing.get_context("fork"), []

    def start(function):
        ready = context.Event()
        job = Requeued(function, ready, per_gpu=False)
        started.append(context.Process(target=job))
        started[-1].start()
        assert ready.wait(20)
        return started[-1]

    yield start
    for process in started:
        process.kill()


def test_after_sigterm_a_process_waits_until_slurm_ends_it(process_of_a_job):
    process = process_of_a_job(run_until_sigterm)
    process.terminate()
    process.join(0.5)
    assert process.is_alive()  # Slurm requeues no job that has ended by itself.
    process.terminate()
    process.join(20)
    assert process.exitcode == 75


def test_what_ends_by_itself_does_not_wait(process_of_a_job):
    process = process_of_a_job(lambda ready: ready.set() or 75)  # An experiment with runs left.
    process.join(20)
    assert process.exitcode == 75


def wait_for(condition, log, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.05)


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture
def one_core():
    """Worker processes take all cores that there are, and would wait for each other."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A Slurm of this machine."""
    missing = [name for name in ("munged", "slurmctld", "slurmd") if not shutil.which(name)]
    if missing or os.getuid():
        pytest.skip(f"no {missing[0]} (Debian's slurm-wlm, munge)" if missing else "not root")
    folder = tmp_path / "slurm"
    script = Path(__file__).with_name("start_slurm.sh")
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    try:
        subprocess.run(["bash", script, folder, *map(str, free_ports(2))], check=True, timeout=60)
        state = ["sinfo", "--noheader", "--partition", "main", "--format", "%T"]
        wait_for(
            lambda: subprocess.run(state, capture_output=True, text=True).stdout == "idle\n",
            folder / "slurmctld.log",
            seconds=30,
        )
        yield
        subprocess.run(["scancel", "--user", "root"], check=True)
        jobs = ["squeue", "--noheader"]  # Without slurmctld, one that is ending would never end.
        wait_for(lambda: not subprocess.check_output(jobs), folder / "slurmctld.log", seconds=60)
    finally:
        for file in folder.glob("*.pid"):
            os.kill(int(file.read_text()), signal.SIGTERM)


class Local:
    """submitit's executor without Slurm; it requeues at once."""

    cluster = "local"

    def interrupt(self, job):
        (process,) = Path(f"/proc/{job.job_id}/task/{job.job_id}/children").read_text().split()
        os.kill(int(process), signal.SIGUSR2)

    def begin_again(self, job):
        pass


class Slurm:
    cluster = "slurm"

    def interrupt(self, job):
        """Do as Slurm does when the time is nearly up."""
        subprocess.run(["scancel", "--signal=USR2", job.job_id], check=True)

    def begin_again(self, job):
        """Slurm waits two minutes before it begins a requeued job again."""
        show = ["scontrol", "show", "job", job.job_id]
        wait_for(lambda: b"Reason=BeginTime" in subprocess.check_output(show), job.paths.stdout)
        subprocess.run(["scontrol", "update", f"JobId={job.job_id}", "StartTime=now"], check=True)


@pytest.fixture(params=[Local, Slurm])
def cluster(one_core, request):
    if request.param is Slurm:
        request.getfixturevalue("slurm")
    return request.param()


def test_an_interrupted_training_goes_on_in_the_requeued_job(
    cluster, environment, repository, tmp_path, monkeypatch, capsys
):
    jobs = []

    @functools.wraps(submit)
    def submit_here(*args, **options):
        jobs.append(submit(*args, **options, cluster=cluster.cluster))

    monkeypatch.setattr(training, "submit", submit_here, raising=False)
    for name in ("DETECTRON2_DATASETS", "PYTHONPATH"):
        monkeypatch.setenv(name, environment[name])
    folder = tmp_path / "out"
    main(
        ["--config-file", str(repository / INSTANT), "--slurm", "time=60,cpus=1"]
        + [*OPTIONS, "OUTPUT_DIR", str(folder)]
    )
    (job,) = jobs
    log = folder / "slurm" / f"{job.job_id}_0_log.out"
    assert capsys.readouterr().out == f"Job {job.job_id}. Its log: {log}\n"
    wait_for(lambda: log.exists() and "Starting training" in log.read_text(), folder)
    cluster.interrupt(job)
    cluster.begin_again(job)
    wait_for(job.paths.result_pickle.exists, log)
    starts = re.findall(r"Starting training from iteration (\d+)", log.read_text())
    assert len(starts) == 2
    assert 0 < int(starts[1]) < 8
    assert torch.load(folder / "model_final.pth")["iteration"] == 7
