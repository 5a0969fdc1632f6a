"""Work on strangers' images in processes of its own, which are ended when they take too much.

The page's own process decodes no image: one that hangs, fills the memory or crashes its decoder
costs its visitor an error, and nobody else anything.
"""

import mmap
import multiprocessing
import signal
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..masks.instances import SparseInstances
from .analysis import Analyser, Found, ImageFile, View

#: Of one look at a file, and of one search for objects.
_READ_SECONDS, _FIND_SECONDS = 60, 900
#: Bytes of such a process, beside those of a decoded image and its copies.
_READ_MEMORY, _FIND_MEMORY, _MEMORY_PER_PIXEL = 2**30, 4 * 2**30, 24

Progress = Callable[[float], None]


class IsolatedAnalyser:
    """Does what an :class:`~unet_sharp_det.app.analysis.Analyser` does, in processes of its own.

    Each look at a file has a process, so that no file waits for another. The network has one that
    stays, and is started again after it had to be ended.

    Args:
        analyser: is pickled.
        read_seconds: for a look at a file.
        read_memory: bytes for it, beside those of the image, where the system says what a process
            has (Linux).
    """

    def __init__(
        self,
        analyser: Analyser,
        read_seconds: float = _READ_SECONDS,
        read_memory: int = _READ_MEMORY,
    ):
        self._analyser = analyser
        self._read_seconds = read_seconds
        self._read_memory = read_memory
        self._readers = multiprocessing.get_context("forkserver")
        self._readers.set_forkserver_preload(["__main__", Analyser.__module__])
        self._workers: set[_Worker] = set()
        self._finder: _Worker | None = None
        self._turn = threading.Lock()

    def load(self) -> None:
        """Load the model now rather than in the first :meth:`find`, or raise a UserError."""
        forkserver.ensure_running()
        self._ask_finder("The model", "load")

    def inspect(self, path: Path) -> ImageFile:
        return self._ask_reader(path, "inspect", path)

    def display(self, view: View) -> np.ndarray:
        return self._ask_reader(view.path, "display", view)

    def find(self, view: View, progress: Progress = lambda fraction: None) -> Found:
        return self._ask_finder(view.path.name, "find", view, progress=progress)

    def write(
        self,
        found: Found,
        objects: SparseInstances,
        pixel_size: tuple[float, float] | None,
        folder: Path,
        names: list[str],
    ) -> list[Path]:
        args = (found, objects, pixel_size, folder, names)
        return self._ask_reader(found.view.path, "write", *args)

    def close(self) -> None:
        """End all processes."""
        for worker in list(self._workers):
            self._end(worker)

    def _ask_reader(self, path: Path, method: str, *args):
        worker = self._start(self._readers, self._read_memory)
        try:
            return worker.call(path.name, self._read_seconds, method, args)
        finally:
            self._end(worker)

    def _ask_finder(self, subject: str, method: str, *args, progress: Progress | None = None):
        with self._turn:
            if self._finder is not None and not self._finder.process.is_alive():
                self._end(self._finder)
                self._finder = None
            if self._finder is None:  # spawned, since a fork could not use CUDA
                self._finder = self._start(multiprocessing.get_context("spawn"), _FIND_MEMORY)
            return self._finder.call(subject, _FIND_SECONDS, method, args, progress)

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

    def call(self, subject: str, seconds: float, method: str, args: tuple, progress=None):
        """Return what a method returns, or raise its error; errors of its process name ``subject``.

        A ``UserError`` of ``progress`` is raised in the method. After any other error, as after too
        many seconds or bytes, the process has ended.
        """
        deadline = time.monotonic() + seconds
        try:
            self._connection.send((method, args, progress is not None))
            while True:
                while not self._connection.poll(0.05):
                    self._check(subject, seconds, deadline)
                kind, content = self._connection.recv()
                if kind != "progress":
                    break
                self._connection.send(_error_of(progress, content))
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


def _error_of(progress: Progress, fraction: float) -> UserError | None:
    try:
        progress(fraction)
    except UserError as error:
        return error
    return None


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
        error = connection.recv()
        if error is not None:
            raise error

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
