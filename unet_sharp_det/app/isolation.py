"""Work on strangers' images in processes of its own, which are ended when they take too much.

The page's own process decodes no image: one that hangs, fills the memory or crashes its decoder
costs its visitor an error, and nobody else anything.
"""

import math
import mmap
import multiprocessing
import signal
import tempfile
import threading
import time
import traceback
from multiprocessing import forkserver
from pathlib import Path

from ..errors import UserError
from .analysis import Analyser, ImageFile, Limits, Search, View
from .sessions import Task

STOPPED = "Cancelled."

#: Of one look at a file, and of one search for objects.
_READ_SECONDS, _FIND_SECONDS = 60, 1800
#: Most bytes of such a process, beside those of a decoded image and its copies. Linux tells them.
_READ_MEMORY, _FIND_MEMORY, _MEMORY_PER_PIXEL = 2**30, 4 * 2**30, 24
_SIMULTANEOUS_READERS = 4
#: Seconds that a search has to stop between two tiles before its process is ended.
_PATIENCE = 5


class IsolatedAnalyser:
    """Does what an :class:`~unet_sharp_det.app.analysis.Analyser` does, in processes of its own.

    Each look at a file has a process, so that no file waits for another. The network has one that
    stays, and is started again after it had to be ended.

    Args:
        analyser: is pickled.
    """

    def __init__(self, analyser: Analyser):
        self._analyser = analyser
        self._readers = multiprocessing.get_context("forkserver")
        self._readers.set_forkserver_preload(["__main__", Analyser.__module__])
        self._reading = threading.BoundedSemaphore(_SIMULTANEOUS_READERS)
        self._workers: set[_Worker] = set()
        self._finder: _Worker | None = None
        self._turn = threading.Lock()

    def load(self, model: str) -> None:
        """Load a model now rather than in the first :meth:`find`, or raise a UserError."""
        try:
            forkserver.ensure_running()
        except OSError as error:  # A socket's path has about 100 characters at most.
            raise UserError(
                f"{tempfile.gettempdir()}: no socket can be opened there ({error}). "
                "Name another folder by TMPDIR, e.g. TMPDIR=/tmp."
            ) from None
        self._ask_finder("The model", "load", model)

    def inspect(self, path: Path) -> ImageFile:
        return self._ask_reader(path.name, "inspect", path)

    def render(self, view: View, folder: Path) -> int:
        return self._ask_reader(view.path.name, "render", view, folder)

    def find(self, view: View, search: Search, folder: Path, waiting: Task) -> int:
        """Find; raise a UserError soon after it was stopped: between tiles, or in a few seconds."""
        return self._ask_finder(view.path.name, "find", view, search, folder, waiting=waiting)

    def compare(self, folder: Path, other: Path) -> list[tuple[int, int]]:
        return self._ask_reader("The comparison", "compare", folder, other)

    def write(self, folder: Path, limits: Limits, pixel_size, stem: Path, names: list[str]) -> dict:
        args = (folder, limits, pixel_size, stem, names)
        return self._ask_reader(stem.name, "write", *args)

    def close(self) -> None:
        """End all processes."""
        for worker in list(self._workers):
            self._end(worker)

    def _ask_reader(self, subject: str, method: str, *args):
        with self._reading:
            worker = self._start(self._readers, _READ_MEMORY)
            try:
                return worker.call(subject, _READ_SECONDS, method, args)
            finally:
                self._end(worker)

    def _ask_finder(self, subject: str, method: str, *args, waiting: Task | None = None):
        with self._turn:
            if self._finder is not None and not self._finder.process.is_alive():
                self._end(self._finder)
                self._finder = None
            if self._finder is None:  # spawned, since a fork could not use CUDA
                self._finder = self._start(multiprocessing.get_context("spawn"), _FIND_MEMORY)
            return self._finder.call(subject, _FIND_SECONDS, method, args, waiting)

    def _start(self, context, memory: int) -> "_Worker":
        memory += _MEMORY_PER_PIXEL * self._analyser.max_pixels
        worker = _Worker(context, self._analyser, memory)
        self._workers.add(worker)
        return worker

    def _end(self, worker: "_Worker") -> None:
        self._workers.discard(worker)
        worker.end()


class _Worker:
    """A process in which the methods of an object are called, one at a time."""

    def __init__(self, context, target, memory: int):
        self._memory = memory
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(target, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def call(
        self,
        subject: str,
        seconds: float,
        method: str,
        args: tuple,
        waiting: Task | None = None,
    ):
        """Return what a method returns, or raise its error; errors of its process name ``subject``.

        Once ``waiting`` is stopped, the method's next report raises. After another error than
        that and the method's own, as after too many seconds or bytes, the process has ended.
        """
        deadline = time.monotonic() + seconds
        stopped_at = math.inf
        try:
            self._connection.send((method, args, waiting is not None))
            while True:
                while not self._connection.poll(0.05):
                    self._check(subject, seconds, deadline)
                    if waiting is not None and waiting.stopped.is_set():
                        stopped_at = min(stopped_at, time.monotonic())
                        if time.monotonic() > stopped_at + _PATIENCE:
                            raise UserError(STOPPED)
                kind, content = self._connection.recv()
                if kind != "progress":
                    break
                waiting.report(content)
                self._connection.send(waiting.stopped.is_set())
        except (EOFError, OSError):
            self.end()
            raise UserError(
                f"{subject}: cannot be read: its process crashed or was ended. "
                "Check that the file is whole and that the computer has memory left."
            ) from None
        except BaseException:
            self.end()
            raise
        if kind == "error":
            raise content
        return content

    def _check(self, subject: str, seconds: float, deadline: float) -> None:
        if time.monotonic() > deadline:
            excess = f"{seconds:g} seconds"
        elif _private_memory(self.process.pid) > self._memory:
            excess = f"{self._memory / 2**30:.1f} GiB of memory"
        else:
            return
        raise UserError(
            f"{subject}: needs more than {excess}, the most that this page gives to an image. "
            "Use unet-sharp-det predict with the image as a tiled TIFF."
        )

    def end(self) -> None:
        """End the process. The connection closes with its last user: a thread may wait on it."""
        self.process.kill()
        self.process.join()


def _private_memory(process: int) -> int:
    """Return how many bytes a process has of its own, or 0 where the system doesn't say."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{process}/statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * mmap.PAGESIZE


def _serve(target, connection) -> None:
    """Call the methods that are asked for, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the page, which ends this process

    def report(fraction: float) -> None:
        connection.send(("progress", fraction))
        if connection.recv():
            raise UserError(STOPPED)

    while True:
        try:
            method, args, reports = connection.recv()
        except EOFError:
            return
        options = {"progress": report} if reports else {}
        try:
            answer = ("result", getattr(target, method)(*args, **options))
        except UserError as error:
            answer = ("error", error)
        except Exception:
            answer = ("error", RuntimeError(traceback.format_exc()))
        connection.send(answer)
