"""One process that trains or evaluates one run, and what it cost."""

import contextlib
import datetime
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from benchmarks.experiments.experiment import Run
from benchmarks.experiments.results import is_evaluated
from benchmarks.experiments.run_folder import LOG_FILE, RunFolder
from benchmarks.measure import machine
from unet_sharp_det.errors import UserError
from unet_sharp_det.provenance import git_state
from unet_sharp_det.report.environment import report_environment
from unet_sharp_det.training import STOPPED_STATUS

_STARTED = b"Starting training from iteration"
_LOG_HEAD = 200_000  # bytes in which the start of the training is looked for
_AGAIN = 5.0  # seconds after which a process is asked to stop once more


def build_command(run: Run, seed: int, folder: RunFolder, weights, train_script) -> list[str]:
    """The command line that trains or evaluates a run.

    Args:
        weights: file of the evaluated run's weights; None for a training.
        train_script: ``tools/train_net.py``, or what takes the same arguments.
    """
    command = [sys.executable, str(train_script), "--config-file", str(run.config_file)]
    command.append("--resume" if run.evaluates is None else "--eval-only")
    command += ["OUTPUT_DIR", str(folder.path), "SEED", str(seed), "DATALOADER.REPLAYABLE", "True"]
    command += run.opts
    if weights is not None:
        command += ["MODEL.WEIGHTS", str(weights)]
    return command


def _environment(env: Mapping[str, str], device: str) -> dict[str, str]:
    threads = env.get("OMP_NUM_THREADS", "")
    return {
        "machine": machine(int(threads) if threads.isdecimal() else None, device),
        **report_environment(),
    }


class Job:
    """A process in a session of its own, so that the terminal's Ctrl-C does not reach it.

    It inherits the lock of its folder: even if the runner is killed, nobody else begins the run
    before the process has ended.
    """

    def __init__(
        self,
        run: Run,
        seed: int,
        folder: RunFolder,
        lock,
        command: Sequence[str],
        env: Mapping[str, str],
        evaluated: dict | None = None,
    ):
        """Start the process and note it in ``run.json``.

        Args:
            run, seed: what it runs.
            folder: of that.
            lock: of :meth:`RunFolder.lock`.
            command: of :func:`build_command`.
            env: its environment.
            evaluated: of :func:`evaluated_weights`; None: it is a training.
        """
        self.run, self.seed, self.folder = run, seed, folder
        self._lock = lock
        self.stop_asked: float | None = None
        self._startup_s: float | None = None
        self._start, self._start_time = time.monotonic(), time.time()
        start = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        sessions = folder.record["sessions"]
        self._session = {"start": start, "git": git_state(), "end": "killed"}
        self._record = {
            **{"run": run.name, "seed": seed, "status": "running", "command": list(command)},
            **{"git": self._session["git"], "error": None},
            "environment": _environment(env, run.cfg.MODEL.DEVICE),
            **{"sessions": [*sessions, self._session], "evaluated": evaluated},
        }
        folder.write_config(run.cfg)
        folder.write_record(self._record)
        self._log = folder.path / LOG_FILE
        with open(self._log, "ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.run.name}, seed {self.seed}"

    def ask_to_stop(self, at_once: bool = False) -> None:
        """Send SIGTERM, again after seconds if it is still there; or SIGKILL.

        SIGTERM is for the process alone: without those that load its data it could not finish the
        iteration. SIGKILL is for them too.
        """
        now = time.monotonic()
        if self.stop_asked is not None and not at_once and now - self.stop_asked < _AGAIN:
            return
        self.stop_asked = now
        with contextlib.suppress(ProcessLookupError):
            if at_once:
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                os.kill(self._process.pid, signal.SIGTERM)

    def seconds_per_iteration(self) -> float:
        """As the log says, which has a line for every 20 of them; before the first line a sixth of
        the time since the training began, so that slow ones come to a checkpoint too; 0 before
        that."""
        try:
            logged = self.folder.seconds_per_iteration()
        except UserError:
            logged = 0.0  # --table says so: a damaged log is no reason to stop a training.
        if logged or self._startup_s is None:
            return logged
        return (time.monotonic() - self._start - self._startup_s) / 6

    def poll(self) -> str | None:
        """Note in ``run.json`` how the process ended.

        Returns:
            the run's new status; None: it has not ended.
        """
        self._note_startup()
        pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
        if pid == 0:
            return None
        code = self._process.returncode = os.waitstatus_to_exitcode(status)
        self._session.update(self._costs(usage))
        self._record["status"] = self._session["end"] = self._judge(code)
        if self._record["status"] == "failed":
            self._record["error"] = f"exit status {code}\n{self.folder.log_tail()}"
        self.folder.write_record(self._record)
        self.folder.drop_checkpoints()
        self._lock.close()
        return self._record["status"]

    def _judge(self, code: int) -> str:
        if code == 0:
            has_results = is_evaluated(self.folder.path / self.run.results_folder)
            return "finished" if has_results else "failed"
        was_stopped = self.stop_asked is not None and code in (-signal.SIGTERM, -signal.SIGKILL)
        return "stopped" if code == STOPPED_STATUS or was_stopped else "failed"

    def _costs(self, usage: resource.struct_rusage) -> dict:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        costs = {
            "wall_s": round(time.monotonic() - self._start, 1),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
            "peak_memory_mib": round(usage.ru_maxrss / unit, 1),
            "exit_status": self._process.returncode,
        }
        if self._startup_s is not None:
            costs["startup_s"] = round(self._startup_s, 1)
        weights = self.folder.final_weights
        if self.run.evaluates is not None:
            costs["evaluation_s"] = costs["wall_s"]
        elif weights.is_file() and weights.stat().st_mtime >= self._start_time:
            costs["evaluation_s"] = round(time.time() - weights.stat().st_mtime, 1)
        return costs

    def _note_startup(self) -> None:
        is_training = self.run.evaluates is None
        if is_training and self._startup_s is None and _STARTED in self._log_head():
            self._startup_s = time.monotonic() - self._start

    def _log_head(self) -> bytes:
        with open(self._log, "rb") as file:
            file.seek(self._log_start)
            return file.read(_LOG_HEAD)
