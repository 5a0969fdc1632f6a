"""Scripts as a shell runs them, in forks of a process that has imported what all of them need.

An import of torch and detectron2 takes longer than most of what tests ask of a script.
"""

import json
import os
import runpy
import select
import subprocess
import sys
import tempfile
from pathlib import Path


class ToolServer:
    """Runs scripts, one at a time, in forks of a process that begins with the first of them."""

    def __init__(self, environment: dict[str, str]):
        self.environment = dict(environment)
        self._process = None

    def run(self, command: list[str], environment, timeout: float) -> subprocess.CompletedProcess:
        """Run a script, or ``-m`` and a module, with its arguments."""
        if self._process is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self._process = subprocess.Popen(
                [sys.executable, __file__], env=self.environment, start_new_session=True, **pipes
            )
        with tempfile.TemporaryDirectory() as folder:
            said = [str(Path(folder, name)) for name in ("stdout", "stderr")]
            job = {"command": command, "environment": dict(environment), "said": said}
            print(json.dumps(job), file=self._process.stdin, flush=True)
            if not select.select([self._process.stdout], [], [], timeout)[0]:
                self.close()
                raise subprocess.TimeoutExpired(command, timeout)
            status = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(
                command, status, *(Path(path).read_text() for path in said)
            )

    def close(self) -> None:
        """End the process, and the script that runs."""
        if self._process is not None:
            os.killpg(self._process.pid, 9)
            self._process.communicate()
            self._process = None


def _serve() -> dict | None:
    """Return each job in a fork of its own; None in this process, when there are no more."""
    import unet_sharp_det.cli.train
    import unet_sharp_det.training.trainer  # noqa: F401
    from unet_sharp_det.prediction import Predictor  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            return json.loads(line)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return None


def _become(command: list[str], environment: dict[str, str], said: list[str]) -> None:
    """Do as ``python *command``."""
    for descriptor, path in enumerate((os.devnull, *said)):
        flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT
        os.dup2(os.open(path, flags), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        sys.path[0] = str(Path(command[0]).parent)
        runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__" and (job := _serve()):
    _become(**job)
