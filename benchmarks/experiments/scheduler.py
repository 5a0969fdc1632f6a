"""Running an experiment: what is not finished, several processes at once, until the time is up."""

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
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


class Scheduler:
    """Runs what an experiment lacks, trainings first: finished runs are skipped, stopped and failed
    ones go on.

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
        self._slots = queue.SimpleQueue()
        for slot in range(self._jobs):
            self._slots.put(slot)
        self._running: dict[int, bool] = {}  # Process id: whether it is asked to stop.
        self._signals = 0

    def run(self) -> Counter:
        """Run until all is done, the time is up, or SIGINT or SIGTERM asks for the end.

        A second signal kills the processes at once; they go on from their last checkpoint.

        Returns:
            Counter: how many of the runs have each status.
        """
        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            self._run_all([pair for pair in self._pairs if pair[0].evaluates is None])
            self._run_all([pair for pair in self._pairs if pair[0].evaluates is not None])
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return Counter(self._status_of(run, seed) for run, seed in self._pairs)

    def _run_all(self, pairs: list[tuple[Run, int]]) -> None:
        with ThreadPoolExecutor(self._jobs) as pool:
            waiting = [pool.submit(self._run_one, run, seed) for run, seed in pairs]
            ended = []
            while waiting:
                done, waiting = wait(waiting, _POLL_S)
                ended += done
                if self._is_over():
                    self._stop_running()
        for future in ended:
            future.result()  # Raises what went wrong.

    def _stop_running(self) -> None:
        """Ask each process once to stop, or kill all. The processes that load its data are not
        asked: without them it could not finish the iteration."""
        for pid, is_asked in list(self._running.items()):
            with contextlib.suppress(ProcessLookupError, KeyError):
                if self._signals > 1:
                    os.killpg(pid, signal.SIGKILL)
                elif not is_asked:
                    os.kill(pid, signal.SIGTERM)
                    self._running[pid] = True

    def _run_one(self, run: Run, seed: int) -> None:
        """Run what is not done, unless its time is up, what it evaluates is not trained, or another
        process runs it."""
        folder = self._folder_of(run.name, seed)
        if self._is_over() or not self._is_ready(run, seed):
            return
        with contextlib.closing(folder.lock()) as lock:
            if lock.closed:
                logger.info(f"{folder.path}: another process runs it")
            elif not self._is_done(run, seed):
                slot = self._slots.get()
                try:
                    status = self._run_process(run, seed, slot, lock)
                    logger.info(f"{folder.path}: {status}")
                finally:
                    self._slots.put(slot)

    def _run_process(self, run: Run, seed: int, slot: int, lock) -> str:
        """Run a process, note it in ``run.json``, and return how it ended.

        It has a session of its own, so that the terminal's Ctrl-C does not reach it, and inherits
        the lock: even if the scheduler is killed, nobody else begins the run before it has ended.
        """
        folder, command = self._folder_of(run.name, seed), self._command(run, seed)
        env = self._environment(slot)
        states, git = folder.record.get("git", []), git_state()
        record = {
            **{"run": run.name, "seed": seed, "status": "running", "error": None},
            **{"command": command, "config": own_settings(run.cfg), "cost": folder.cost},
            "evaluated": self._weights_of(run, seed),
            "environment": {
                "machine": machine(int(env["OMP_NUM_THREADS"]), run.cfg.MODEL.DEVICE),
                **versions(),
            },
            "git": states if git in states else [*states, git],
        }
        folder.write_record(record)
        logger.info(f"{folder.path}: started")
        with open(folder.path / LOG_FILE, "ab") as log:
            process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )
        self._running[process.pid] = False
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        is_asked_to_stop = self._running.pop(process.pid) or self._signals > 1
        _, status, usage = os.wait4(process.pid, 0)
        code = process.returncode = os.waitstatus_to_exitcode(status)
        record["cost"] = _add_cost(record["cost"], usage, code)
        if code == 0 and is_evaluated(results_folder(run, folder)):
            record["status"] = "finished"
        elif code == STOPPED_STATUS or (is_asked_to_stop and code < 0):
            record["status"] = "stopped"
        else:
            record |= {"status": "failed", "error": f"exit status {code}\n{folder.log_tail()}"}
        folder.write_record(record)
        folder.drop_checkpoints()
        return record["status"]

    def _is_over(self) -> bool:
        return self._signals > 0 or time.monotonic() > self._deadline

    def _is_ready(self, run: Run, seed: int) -> bool:
        """Whether what it evaluates, if anything, is trained."""
        if run.evaluates is None:
            return True
        return self._folder_of(run.evaluates, seed).record["status"] == "finished"

    def _command(self, run: Run, seed: int) -> list[str]:
        command = [sys.executable, str(self._train_script), "--config-file", str(run.config_file)]
        command.append("--resume" if run.evaluates is None else "--eval-only")
        command += ["OUTPUT_DIR", str(self._folder_of(run.name, seed).path), "SEED", str(seed)]
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


def _add_cost(before: dict | None, usage, code: int) -> dict | None:
    if before is None or code == -signal.SIGKILL:
        return None
    cpu_s = before["cpu_s"] + usage.ru_utime + usage.ru_stime
    peak = max(before["peak_memory_mib"], usage.ru_maxrss / 2**10)
    return {"cpu_s": round(cpu_s, 3), "peak_memory_mib": round(peak, 1)}


def _visible_gpus() -> list[str]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(index) for index in range(count)]
