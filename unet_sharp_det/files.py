"""Files that are either the old one or the complete new one; paths that stay in their folder."""

import contextlib
import csv
import fcntl
import itertools
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .addresses import address_of, local_path
from .errors import DatasetError, UserError, disk_error

logger = logging.getLogger(__name__)

# What a killed process leaves of a_labels.tif: .a_labels.tif.1f3a20c9.tif
_TEMPORARY = re.compile(r"\.(.+?((?:\.nii)?\.\w+)?)\.[0-9a-z_]{8}(?(2)\2)", re.IGNORECASE)


@contextlib.contextmanager
def atomic_path(path, *, is_folder: bool = False):
    """Yield a temporary path beside ``path``; it replaces ``path`` only if the block succeeds.

    The content is on disk before it does. The temporary file is locked as long as it is written.
    With ``is_folder`` it is a folder; an old one is removed just before.

    Raises:
        UserError: ``path`` is an address or cannot be written, or the disk is full.
    """
    path = Path(path)
    with _named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_of(path)
        if is_folder:
            temporary.mkdir()
        flags = os.O_RDONLY if is_folder else os.O_RDWR | os.O_CREAT | os.O_EXCL
        handle = os.open(temporary, flags, 0o666)
    try:
        with contextlib.suppress(OSError):  # A file system without locks.
            lock(handle)
        yield temporary
        with _named_errors(path):
            _sync(temporary)
            for folder, below, names in os.walk(temporary):
                for name in (*below, *names):
                    _sync(Path(folder, name))
            if is_folder:
                remove(path)
            os.replace(temporary, path)
            _sync(path.parent)
    except BaseException as error:
        remove(temporary)
        full = None if isinstance(error, UserError) else disk_error(error)
        if full:
            raise _write_error(path, full) from error
        raise
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Delete a file, or a folder with all that it holds; nothing if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder, is_own: Callable[[str], bool]) -> None:
    """Delete the temporary files and folders in and below ``folder`` whose writers were killed.

    ``is_own`` says whether this program wrote a file of that path, relative with ``/``.
    """
    for parent, below, names in os.walk(folder):
        for match in filter(None, map(_TEMPORARY.fullmatch, (*below, *names))):
            if is_own(Path(parent, match[1]).relative_to(folder).as_posix()):
                with contextlib.suppress(OSError):
                    _remove_unlocked(Path(parent, match[0]))


def _remove_unlocked(path: Path) -> None:
    # NFS locks no file that is open for reading alone.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        lock(handle)
        remove(path)
    finally:
        os.close(handle)


def lock(handle: int) -> None:
    """Lock an open file, until it is closed or the process ends, whatever ends it.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file system has no locks.
    """
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def only_writer(folder, wait_s: float = 0, name: str = "writer.lock") -> Iterator[None]:
    """Let one process at a time, on any machine, run such a block for ``folder``, which is made.

    The process holds it, not its children: whatever ends the process, the next one may begin.
    Where the file system has no locks, a warning says so.

    Args:
        wait_s: for the end of another one, in seconds.
        name: of the file in the folder that is locked.

    Raises:
        UserError: another process runs one, or the folder cannot be written.
    """
    path, end = Path(folder, name), time.monotonic() + wait_s
    with _named_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    os.register_at_fork(after_in_child=file.close)
    with file:
        while not _is_locked(file.fileno(), folder):
            if time.monotonic() >= end:
                raise UserError(
                    f"{folder}: another process writes there. Wait for its end, or take another "
                    "folder."
                )
            time.sleep(1)
        yield


def _is_locked(handle: int, folder) -> bool:
    """Lock an open file, unless another process has it."""
    try:
        lock(handle)
    except BlockingIOError:
        return False
    except OSError as error:
        logger.warning(
            f"{folder}: cannot be locked ({error.strerror}). Let no other process write there."
        )
    return True


def check_name(path) -> None:
    """Raise a UserError if the file system takes no file of that name, or not the temporary one."""
    path = Path(path)
    folder = next(each for each in path.parents if each.exists())
    try:
        os.lstat(folder / _temporary_of(path).name)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(
            f"{path}: cannot be the name of a file ({error.strerror}). Take a shorter name."
        ) from error


def write_text(path, text: str) -> None:
    """Write ``text`` to ``path`` atomically (UTF-8)."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, content, indent=None) -> None:
    """Write ``content`` as JSON to ``path`` atomically."""
    write_text(path, json.dumps(content, indent=indent) + "\n")


def write_csv(path, columns: Iterable[str], rows: Iterable[Iterable]) -> None:
    """Write a CSV file with a header, atomically (UTF-8; bytes that are no text are escaped)."""
    with atomic_path(path) as temporary:
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(rows)


def read_json(path, kind: type = object, remedy: str = ""):
    """Return what a JSON file in UTF-8 holds, with or without a byte order mark.

    Args:
        path: a file, or its address.
        kind: of the content, dict or list.
        remedy: what the user can do; ends the errors.

    Raises:
        DatasetError: there is no such plain file, or it is not JSON of that kind.
    """
    remedy = f" {remedy}" if remedy else ""
    file, path = local_path(path), address_of(path) or path
    if not os.path.isfile(file):  # A pipe would be waited for.
        raise DatasetError(f"There is no file {path}.{remedy}")
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}).{remedy}") from error
    except RecursionError as error:
        raise DatasetError(f"{path}: is not JSON, it is nested too deeply.{remedy}") from error
    except ValueError as error:
        raise DatasetError(f"{path}: is not JSON in UTF-8 ({error}).{remedy}") from error
    if not isinstance(content, kind):
        found = type(content).__name__
        raise DatasetError(f"{path}: is no {kind.__name__}, but {found}.{remedy}")
    return content


def safe_join(root, name, where: str) -> Path:
    """Return ``root / name`` for a name out of a file, perhaps a stranger's.

    Sub-folders are allowed, and links that lie below ``root``; the path need not exist.

    Args:
        name: a relative path, with "/" between its parts.
        where: the file that it stands in, for the error.

    Raises:
        DatasetError: the name is none of :func:`leads_inside`.
    """
    if not leads_inside(name):
        raise DatasetError(
            f"{where}: the file name {name!r} could lead out of {root}. Write it as 'a.png' or "
            "'sub/a.png'."
        )
    return Path(root) / name


def split_name(path) -> tuple[str, str]:
    """Split a file's name before its suffix, see :func:`ending_of`, which keeps its case."""
    name = Path(path).name
    start = len(name) - len(ending_of(path))
    return name[:start], name[start:]


def ending_of(path) -> str:
    """Return the suffix of a file's name in lower case; ``.nii.gz`` is one."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def unused_name(name: str, is_used: Callable[[str], bool]) -> str:
    """Return a name, with the first of the endings ``_2``, ``_3`` .. where it is used."""
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if not is_used(each))


def leads_inside(name) -> bool:
    """Whether a name is a relative path, of any system, that stays below its folder."""
    if not isinstance(name, str) or not name or re.search(r"[\\\0]|^/|^[A-Za-z]:", name):
        return False
    return ".." not in name.split("/")


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    if address := address_of(path):  # Else it would be a folder here that is called "s3:".
        raise UserError(f"{address}: only folders can be written to. Name one, and copy it there.")
    try:
        yield
    except OSError as error:
        raise _write_error(path, error) from error


def _write_error(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot be written ({error.strerror}). Make room, or choose another place."
    )


def _temporary_of(path: Path) -> Path:
    # By the suffix, in lower case, ITK chooses the format.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{ending_of(path)}")


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
