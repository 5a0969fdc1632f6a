"""Running an experiment: what is not finished, several processes at once, until the time is up."""

import logging
import os
import signal
import time
from collections import Counter
from pathlib import Path

import torch

from benchmarks.experiments.experiment import Experiment, Run
from benchmarks.experiments.job import Job, build_command
from benchmarks.experiments.results import evaluated_weights, is_done, run_folder_of
from benchmarks.experiments.run_folder import STATUSES, RunFolder

logger = logging.getLogger(__name__)

_UNKNOWN_STARTUP_S = 30.0  # before any run of the experiment has told
_POLL_S = 0.1


class Scheduler:
    """Runs what an experiment lacks: finished runs are skipped, stopped and failed ones go on.

    Finished evaluations are made again if their metrics were deleted or the training that they
    belong to left other weights since then. Runs whose config is not the one that they were
    started with are an error before the first start. A run that fails is noted in its ``run.json``
    and the others go on; each is tried once.
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
        margin_s: float = 10.0,
        grace_s: float = 60.0,
    ):
        """
        Args:
            experiment: what to run.
            folder: where to; ``<run>/seed<k>`` below it.
            train_script: ``tools/train_net.py``, or what takes the same arguments.
            runs, seeds: some of the experiment's; None: all.
            jobs: processes at a time; None: the number of GPUs, 1 without, or if all runs have the
                ``MODEL.DEVICE`` cpu.
            minutes: after which everything is over; None: no limit.
            margin_s: seconds before that to stop, beside those of three iterations.
            grace_s: seconds that a stop may take when the user asks for it; then the process is
                killed, and goes on from its last checkpoint the next time. Both are longer by an
                evaluation, as far as its time is known, where a training has some on its way.

        Raises:
            ConfigError: a run or seed is unknown, or a started run's config has changed.
        """
        self._folder, self._train_script = Path(folder), train_script
        wants_gpu = any(run.cfg.MODEL.DEVICE.startswith("cuda") for run in experiment.runs)
        self._gpus = _visible_gpus() if wants_gpu else []
        self._jobs = jobs or max(1, len(self._gpus))
        self._begin = time.monotonic()
        self._deadline = float("inf") if minutes is None else self._begin + 60 * minutes
        self._margin_s, self._grace_s = margin_s, grace_s
        self._pairs = experiment.select(runs, seeds)
        self._by_name = {run.name: run for run in experiment.runs}
        for run, seed in self._pairs:
            self._folder_of(run, seed).check_config(run.cfg)
        self._waiting = list(self._pairs)
        self._running: dict[int, Job] = {}
        self._stop_requested: float | None = None
        self._signals = 0
        self._has_begun = False
        self._evaluation_s = 0.0

    def run(self) -> Counter:
        """Run until all is done, the time is up, or SIGINT or SIGTERM asks for the end.

        A second signal kills the processes at once.

        Returns:
            Counter: how many of the runs have each status.
        """
        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            while self._step():
                time.sleep(_POLL_S)
        finally:
            for job in self._running.values():
                job.ask_to_stop()
            for number, handler in previous.items():
                signal.signal(number, handler)
        self._explain_waiting()
        return Counter(self._status_of(run, seed) for run, seed in self._pairs)

    def _step(self) -> bool:
        """Look after the processes; return whether there is anything left to wait for."""
        # A run that is not ready now is so at the end of another one, if ever: time only passes.
        has_news = not self._has_begun
        self._has_begun = True
        for slot, job in list(self._running.items()):
            status = job.poll()
            if status is not None:
                has_news = True
                logger.info(f"{job.name}: {status}, {job.folder.path}")
                del self._running[slot]
            elif self._must_stop(job):
                job.ask_to_stop(at_once=self._must_be_gone(job))
        if has_news:
            self._evaluation_s = max(self._measured("evaluation_s"), default=0.0)
            if self._stop_requested is None:
                self._start_waiting()
        return bool(self._running)

    def _must_stop(self, job: Job) -> bool:
        if self._stop_requested is not None or job.stop_asked is not None:
            return True
        evaluation_s = self._evaluation_on_the_way_s(job)
        left = self._deadline - time.monotonic() - evaluation_s
        if left > 100 * self._margin_s:
            return False
        return left < self._margin_s + 3 * job.seconds_per_iteration()

    def _must_be_gone(self, job: Job) -> bool:
        now = time.monotonic()
        if self._signals > 1 or now > self._deadline:
            return True
        grace_s = self._grace_s + self._evaluation_on_the_way_s(job)
        return self._stop_requested is not None and now > self._stop_requested + grace_s

    def _evaluation_on_the_way_s(self, job: Job) -> float:
        """Seconds that a training may be busy evaluating before it hears that it is to stop."""
        if not job.run.cfg.TEST.EVAL_PERIOD or job.folder.final_weights.is_file():
            return 0.0
        return self._evaluation_s

    def _start_waiting(self) -> None:
        for pair in list(self._waiting):
            slots = [slot for slot in range(self._jobs) if slot not in self._running]
            if not slots:
                return
            if not self._obstacle(*pair):
                self._waiting.remove(pair)
                self._start(*pair, slots[0])

    def _obstacle(self, run: Run, seed: int) -> str:
        """Why it could not begin now: what it evaluates is not trained, or the time is short."""
        trained = self._trained(run, seed)
        if trained is not None and trained.status != "finished":
            return f"it evaluates {run.evaluates}, which is not trained"
        left = self._deadline - time.monotonic()
        needed = self._needed_s(run, self._folder_of(run, seed))
        return f"it needs {needed:.0f} s to get anywhere" if left < needed else ""

    def _explain_waiting(self) -> None:
        for run, seed in self._waiting:
            obstacle = self._obstacle(run, seed)
            if obstacle and self._status_of(run, seed) != "finished":
                logger.info(f"{run.name}, seed {seed}: not begun, {obstacle}.")

    def _needed_s(self, run: Run, folder: RunFolder) -> float:
        if self._deadline == float("inf"):
            return 0.0
        startup = max(self._measured("startup_s"), default=_UNKNOWN_STARTUP_S)
        only_evaluates = run.evaluates is not None or folder.final_weights.is_file()
        return startup + only_evaluates * self._evaluation_s + self._margin_s

    def _measured(self, cost: str) -> list[float]:
        """A cost of all sessions; that of an evaluation which was stopped counts as far as it went,
        so that each try is given more time than the one before."""
        return [
            session[cost]
            for run, seed in self._pairs
            for session in self._folder_of(run, seed).record["sessions"]
            if cost in session
        ]

    def _start(self, run: Run, seed: int, slot: int) -> None:
        folder = self._folder_of(run, seed)
        lock = folder.lock()
        if lock is None:
            logger.info(f"{run.name}, seed {seed}: another process runs it, {folder.path}")
            return
        trained = self._trained(run, seed)
        evaluated = evaluated_weights(run, trained)
        if is_done(run, folder, evaluated):
            lock.close()
            return
        weights = trained.final_weights if trained is not None else None
        command = build_command(run, seed, folder, weights, self._train_script)
        env = self._environment(slot)
        self._running[slot] = Job(run, seed, folder, lock, command, env, evaluated)
        logger.info(f"{run.name}, seed {seed}: started, {folder.path}")

    def _status_of(self, run: Run, seed: int) -> str:
        """Of ``STATUSES``; a finished run that is to be evaluated again is waiting."""
        folder = self._folder_of(run, seed)
        evaluated = evaluated_weights(run, self._trained(run, seed))
        if folder.status == "finished" and not is_done(run, folder, evaluated):
            return "waiting"
        return folder.status

    def _environment(self, slot: int) -> dict[str, str]:
        threads = max(1, len(os.sched_getaffinity(0)) // self._jobs)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        return environment

    def _trained(self, run: Run, seed: int) -> RunFolder | None:
        if run.evaluates is None:
            return None
        return self._folder_of(self._by_name[run.evaluates], seed)

    def _folder_of(self, run: Run, seed: int) -> RunFolder:
        return run_folder_of(self._folder, run, seed)

    def _on_signal(self, signum, frame) -> None:
        self._signals += 1
        if self._stop_requested is None:
            self._stop_requested = time.monotonic()


def exit_status(counts: Counter) -> int:
    """0: all finished; 1: some failed; 75 (try again): some are left."""
    if counts["failed"]:
        return 1
    return 0 if set(counts) <= {"finished"} else 75


def summary(counts: Counter) -> str:
    """A line such as "1 failed, 3 finished"."""
    return ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])


def _visible_gpus() -> list[str]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(index) for index in range(count)]
