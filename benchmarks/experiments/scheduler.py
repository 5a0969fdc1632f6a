"""Running an experiment: what is not finished, several processes at once, until the time is up."""

import contextlib
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from benchmarks.experiments.experiment import Experiment, Run
from benchmarks.experiments.results import is_evaluated, results_folder
from benchmarks.experiments.run_folder import LOG_FILE, STATUSES, RunFolder, own_settings
from benchmarks.measure import machine
from unet_sharp_det.provenance import git_state, versions
from unet_sharp_det.training import STOPPED_STATUS

logger = logging.getLogger(__name__)

_POLL_S = 0.1
_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pycocotools", "faster-coco-eval", "timm")


class Job:
    """A process that trains or evaluates a run, in a session of its own, so that the terminal's
    Ctrl-C does not reach it.

    It inherits the lock of its folder: even if the scheduler is killed, nobody else begins the run
    before the process has ended.
    """

    def __init__(self, run: Run, folder: RunFolder, lock, command: list[str], env, record: dict):
        """Start ``command`` and note it in ``run.json``, beside what ``record`` says."""
        self.run, self.folder, self._lock = run, folder, lock
        self._is_asked_to_stop = False
        self._record = {
            **record,
            **{"status": "running", "command": command, "config": own_settings(run.cfg)},
            **{"cost": folder.cost, "error": None},
        }
        folder.write_record(self._record)
        with open(folder.path / LOG_FILE, "ab") as log:
            self._process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )

    def stop(self) -> None:
        """Ask it once to stop; without the workers that load its data it could not finish the
        iteration, so they are not asked."""
        if not self._is_asked_to_stop:
            self._is_asked_to_stop = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it and its workers; it goes on from its last checkpoint the next time."""
        self._is_asked_to_stop = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def poll(self) -> str | None:
        """Note in ``run.json`` how the process ended; return the new status, None before that."""
        pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
        if pid == 0:
            return None
        code = self._process.returncode = os.waitstatus_to_exitcode(status)
        self._record["cost"] = self._add_cost(usage, code)
        self._record["status"] = self._judge(code)
        if self._record["status"] == "failed":
            self._record["error"] = f"exit status {code}\n{self.folder.log_tail()}"
        self.folder.write_record(self._record)
        self.folder.drop_checkpoints()
        self._lock.close()
        return self._record["status"]

    def _judge(self, code: int) -> str:
        if code == 0:
            return "finished" if is_evaluated(results_folder(self.run, self.folder)) else "failed"
        was_stopped = code == STOPPED_STATUS or (self._is_asked_to_stop and code < 0)
        return "stopped" if was_stopped else "failed"

    def _add_cost(self, usage: resource.struct_rusage, code: int) -> dict | None:
        before = self._record["cost"]
        if before is None or code == -signal.SIGKILL:
            return None
        cpu_s = before["cpu_s"] + usage.ru_utime + usage.ru_stime
        peak = max(before["peak_memory_mib"], usage.ru_maxrss / 2**10)
        return {"cpu_s": round(cpu_s, 3), "peak_memory_mib": round(peak, 1)}


class Scheduler:
    """Runs what an experiment lacks: finished runs are skipped, stopped and failed ones go on.

    Finished evaluations are made again if their metrics were deleted or the training that they
    belong to left other weights since then. A run that fails is noted in its ``run.json`` and the
    others go on; each is tried once.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder,
        train_script,
        *,
        runs: list[str] | None = None,
        seeds: list[int] | None = None,
        jobs: int | None = None,
        minutes: float | None = None,
    ):
        """
        Args:
            experiment: what to run.
            folder: where to; ``<run>/seed<k>`` below it.
            train_script: ``tools/train_net.py``, or what takes the same arguments.
            runs, seeds: some of the experiment's; None: all.
            jobs: processes at a time; None: the number of GPUs, 1 without, or if all runs have the
                ``MODEL.DEVICE`` cpu.
            minutes: after which nothing is begun and what runs is asked to stop at a checkpoint;
                None: no limit.

        Raises:
            ConfigError: a run or seed is unknown, or a started run's config has changed.
        """
        self._folder, self._train_script = Path(folder), train_script
        wants_gpu = any(run.cfg.MODEL.DEVICE.startswith("cuda") for run in experiment.runs)
        self._gpus = _visible_gpus() if wants_gpu else []
        self._jobs = jobs or max(1, len(self._gpus))
        self._deadline = time.monotonic() + (float("inf") if minutes is None else 60 * minutes)
        self._pairs = experiment.select(runs, seeds)
        for run, seed in self._pairs:
            self._folder_of(run.name, seed).check_config(run.cfg)
        self._waiting = list(self._pairs)
        self._running: dict[int, Job] = {}
        self._signals = 0

    def run(self) -> Counter:
        """Run until all is done, the time is up, or SIGINT or SIGTERM asks for the end.

        A second signal kills the processes at once.

        Returns:
            Counter: how many of the runs have each status.
        """
        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            self._start_waiting()
            while self._running:
                time.sleep(_POLL_S)
                if self._is_over():
                    for job in self._running.values():
                        job.kill() if self._signals > 1 else job.stop()
                if self._collect_ended():
                    self._start_waiting()
        finally:
            for job in self._running.values():
                job.stop()
            for number, handler in previous.items():
                signal.signal(number, handler)
        return Counter(self._status_of(run, seed) for run, seed in self._pairs)

    def _is_over(self) -> bool:
        return self._signals > 0 or time.monotonic() > self._deadline

    def _collect_ended(self) -> bool:
        ended = {slot: status for slot, job in self._running.items() if (status := job.poll())}
        for slot, status in ended.items():
            logger.info(f"{self._running.pop(slot).folder.path}: {status}")
        return bool(ended)

    def _start_waiting(self) -> None:
        for run, seed in list(self._waiting):
            free = [slot for slot in range(self._jobs) if slot not in self._running]
            if not free or self._is_over():
                return
            if self._is_ready(run, seed):
                self._waiting.remove((run, seed))
                self._start(run, seed, free[0])

    def _is_ready(self, run: Run, seed: int) -> bool:
        """Whether what it evaluates, if anything, is trained."""
        if run.evaluates is None:
            return True
        return self._folder_of(run.evaluates, seed).record["status"] == "finished"

    def _start(self, run: Run, seed: int, slot: int) -> None:
        folder = self._folder_of(run.name, seed)
        lock = folder.lock()
        if lock is None:
            logger.info(f"{folder.path}: another process runs it")
            return
        if self._is_done(run, seed):
            lock.close()
            return
        env, git = self._environment(slot), git_state()
        states = folder.record.get("git", [])
        threads, device = int(env["OMP_NUM_THREADS"]), run.cfg.MODEL.DEVICE
        record = {
            **{"run": run.name, "seed": seed, "evaluated": self._weights_of(run, seed)},
            "environment": {"machine": machine(threads, device), **versions(_PACKAGES)},
            "git": states if git in states else [*states, git],
        }
        command = self._command(run, seed, folder)
        self._running[slot] = Job(run, folder, lock, command, env, record)
        logger.info(f"{folder.path}: started")

    def _command(self, run: Run, seed: int, folder: RunFolder) -> list[str]:
        command = [sys.executable, str(self._train_script), "--config-file", str(run.config_file)]
        command.append("--resume" if run.evaluates is None else "--eval-only")
        command += ["OUTPUT_DIR", str(folder.path), "SEED", str(seed)]
        command += ["DATALOADER.REPLAYABLE", "True", *run.opts]
        if run.evaluates is not None:
            weights = self._folder_of(run.evaluates, seed).final_weights
            command += ["MODEL.WEIGHTS", str(weights)]
        return command

    def _environment(self, slot: int) -> dict[str, str]:
        threads = max(1, len(os.sched_getaffinity(0)) // self._jobs)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        return environment

    def _status_of(self, run: Run, seed: int) -> str:
        """Of ``STATUSES``; a finished run that is to be evaluated again is waiting."""
        status = self._folder_of(run.name, seed).record["status"]
        if status == "finished" and not self._is_done(run, seed):
            return "waiting"
        return status

    def _is_done(self, run: Run, seed: int) -> bool:
        """Whether it is finished, its metrics are there, and they are of the weights of now."""
        folder = self._folder_of(run.name, seed)
        record, weights = folder.record, self._weights_of(run, seed)
        if record["status"] != "finished" or not is_evaluated(results_folder(run, folder)):
            return False
        return not weights or record["evaluated"] == weights

    def _weights_of(self, run: Run, seed: int) -> str | None:
        """The fingerprint of the weights that a run evaluates; None: it is a training."""
        if run.evaluates is None:
            return None
        return self._folder_of(run.evaluates, seed).fingerprint

    def _folder_of(self, run: str, seed: int) -> RunFolder:
        return RunFolder(self._folder, run, seed)

    def _on_signal(self, signum, frame) -> None:
        self._signals += 1


def exit_status(counts: Counter) -> int:
    """0: all finished; 1: some failed; 75 (try again): some are left."""
    if counts["failed"]:
        return 1
    return 0 if set(counts) <= {"finished"} else STOPPED_STATUS


def summary(counts: Counter) -> str:
    """A line such as "1 failed, 3 finished"."""
    return ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])


def _visible_gpus() -> list[str]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(index) for index in range(count)]
