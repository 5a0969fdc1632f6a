"""A run at an address such as ``s3://bucket/run``: a folder here, whose files are brought there."""

import contextlib
import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from detectron2.utils import comm
from fsspec.core import url_to_fs
from iopath.common.file_io import get_cache_dir

from ..addresses import explained
from ..errors import UserError, one_line
from ..files import only_writer, read_json, safe_join, write_json

_LAST = "last_checkpoint"
_LOCK = "writer.lock"
_RECORD = ".storage.json"
_RELEASED = "released"
_BEAT_S, _DEAD_S = 20, 90

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def stored_run(address: str, *, resume: bool, wait_s: float) -> Iterator[tuple[str, Callable]]:
    """Yield the folder of a run on this machine, and what brings its new and changed files to
    ``address``, ``last_checkpoint`` after all others: for the main process, after a checkpoint.

    To be entered by all workers. What could not be brought is tried again the next time, and at
    the end.

    Args:
        resume: the folder gets the last checkpoint and the small files that are at the address,
            unless this machine wrote there last: its folder has them, and perhaps newer ones.
        wait_s: for the end of another writer, in seconds.

    Raises:
        UserError: another process writes there, the address cannot be reached, or at the end
            something could not be brought.
    """
    run = _StoredRun(address)
    with contextlib.ExitStack() as stack:
        if comm.is_main_process():
            stack.enter_context(run.written(resume, wait_s))
        writer = comm.all_gather(run.lock.token)[0]
        if resume and comm.get_local_rank() == 0 and run.read_record()["writer"] != writer:
            run.fetch()
        comm.synchronize()
        yield str(run.folder), run.bring


class _StoredRun:
    def __init__(self, address: str):
        name = f"{Path(address).name}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"
        self.address, self.folder = address, Path(get_cache_dir(), "runs", name)
        # Other stores have no folders to make.
        options = {"auto_mkdir": True} if address.startswith("file:") else {}
        with explained(address):
            self._store, self._root = url_to_fs(address, **options)
            if options:
                Path(self._root, _LOCK).mkdir(parents=True, exist_ok=True)
        self.lock = WriterLock(self._store, f"{self._root}/{_LOCK}", address)
        self._brought: dict[str, list[int] | None] = {}

    @contextlib.contextmanager
    def written(self, resume: bool, wait_s: float) -> Iterator[None]:
        """Let this process alone write at the address; bring what is left at the end."""
        with only_writer(self.folder, wait_s):
            record = self.read_record()
            # If the last writer had this folder it is dead: the folder's own lock is free.
            was_last = self.lock.acquire(wait_s, record["writer"]) == record["writer"]
            try:
                if resume and was_last:
                    self._brought = {name: record["brought"].get(name) for name in self._files()}
                else:
                    (self.folder / _LAST).unlink(missing_ok=True)
                    if resume:
                        self.fetch()
                    self._brought = self._files()
                self.bring(must=True)
                try:
                    yield
                except BaseException:
                    with contextlib.suppress(UserError):
                        self.bring()
                    raise
                self.bring(must=True)
            finally:
                self.lock.release()

    def read_record(self) -> dict:
        """Return the token of the folder's last writer, and the states of what it brought."""
        try:
            return read_json(self.folder / _RECORD, dict)
        except UserError:
            return {"writer": None, "brought": {}}

    def fetch(self) -> None:
        """Get the last checkpoint and the small files, if there are any."""
        (self.folder / _LAST).unlink(missing_ok=True)
        with explained(self.address):
            self._store.invalidate_cache()
            names = [path.removeprefix(f"{self._root}/") for path in self._store.find(self._root)]
            last = self._store.cat_file(f"{self._root}/{_LAST}") if _LAST in names else b""
            for name in sorted(names, key=_LAST.__eq__):
                is_other = name.endswith(".pth") and name != last.decode()
                if not is_other and not name.startswith(f"{_LOCK}/"):
                    path = safe_join(self.folder, name, self.address)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self._store.get_file(f"{self._root}/{name}", str(path))

    def bring(self, *, must: bool = False) -> None:
        """Bring new and changed files to the address, and delete there what was deleted here.

        Raises:
            UserError: another process took the run over; with ``must`` also if a file could not
                be brought, which else is a warning.
        """
        try:
            if self.lock.newest()[0] > self.lock.number:
                raise UserError(
                    f"{self.address}: another process took this run over, after {_DEAD_S} s "
                    f"without a sign of this one. What this one wrote is in {self.folder}."
                )
            self._bring_changed()
        except UserError:
            raise
        except Exception as error:  # of any kind, from the library of a store
            message = (
                f"{self.address}: cannot be written ({one_line(error)}). All files are in "
                f"{self.folder}; --resume on this machine brings them."
            )
            if must:
                raise UserError(message) from error
            logger.warning(message)

    def _bring_changed(self) -> None:
        files = self._files()
        changed = [name for name in files if files[name] != self._brought.get(name)]
        try:
            for name in sorted(changed, key=_LAST.__eq__):
                self._store.put_file(str(self.folder / name), f"{self._root}/{name}")
                self._brought[name] = files[name]
            for name in self._brought.keys() - files.keys():
                self._store.rm_file(f"{self._root}/{name}")
                del self._brought[name]
        finally:
            record = {"writer": self.lock.token, "brought": self._brought}
            write_json(self.folder / _RECORD, record)

    def _files(self) -> dict[str, list[int]]:
        """Return what changes when a file does, by its name."""
        found = {}
        for path in self.folder.rglob("[!.]*"):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and name != _LOCK:
                found[name] = [path.stat().st_size, path.stat().st_mtime_ns]
        return found


class WriterLock:
    """The right to write, which one process has until it ends, in any way, on any machine.

    Who has it is the newest of the objects ``1``, ``2``, ... in a folder. A store creates each of
    them once, for one process, which writes it anew every 20 s. If that does not happen for 90 s,
    the process is taken as dead, and the next number is free.
    """

    def __init__(self, store, folder: str, name: str):
        """
        Args:
            store: a file system of fsspec.
            folder: a path in it.
            name: what errors call it.
        """
        self.number, self.token = 0, secrets.token_hex(8)
        self._store, self._folder, self._name = store, folder, name
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def newest(self) -> tuple[int, str, str]:
        """Return the number, the token and the state of the last writer; 0 if there was none."""
        self._store.invalidate_cache(self._folder)
        names = []
        with contextlib.suppress(FileNotFoundError):
            names = [name.rpartition("/")[2] for name in self._store.ls(self._folder, detail=False)]
        number = max(map(int, filter(str.isdecimal, names)), default=0)
        content = self._store.cat_file(self._path(number)).decode() if number else f" {_RELEASED}"
        token, _, state = content.partition(" ")
        return number, token, state

    def acquire(self, wait_s: float, dead: str | None) -> str:
        """Get it, and return the token of the writer before.

        Args:
            wait_s: for the end of another writer, in seconds.
            dead: the token of a writer that is known to have ended.

        Raises:
            UserError: another process has it, or the store cannot be reached.
        """
        end, last, is_alive = time.monotonic() + wait_s, None, False
        with explained(self._name):
            while True:
                found, now = self.newest(), time.monotonic()
                if found != last:
                    is_alive, last, since = last is not None, found, now
                number, token, state = found
                if token == dead or state == _RELEASED or now - since >= _DEAD_S:
                    if self._create(number + 1):
                        return token
                elif is_alive and now >= end and now - since < 2 * _BEAT_S:
                    raise UserError(
                        f"{self._name}: another process writes there. Wait for its end, or take "
                        "another address."
                    )
                time.sleep(1)

    def release(self) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(Exception):  # Then the next one waits.
            self._write(_RELEASED)

    def _create(self, number: int) -> bool:
        try:
            self._write("0", number, mode="create")
        except FileExistsError:
            return False
        if self.newest() != (number, self.token, "0"):  # in a store that writes over it
            return False
        self.number = number
        self._thread.start()
        return True

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_S):
            with contextlib.suppress(Exception):  # The next one may succeed.
                self._write(str(time.monotonic()))

    def _write(self, state: str, number: int = 0, **mode) -> None:
        path = self._path(number or self.number)
        self._store.pipe_file(path, f"{self.token} {state}".encode(), **mode)

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number}"
