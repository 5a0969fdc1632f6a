"""Atomic writing: a file or folder is either the old one or the complete new one, never half.

And paths out of files, which must not lead out of their folder.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from unet_sharp_det.errors import DatasetError, UserError


@contextlib.contextmanager
def atomic_path(path):
    """Yield a temporary path beside ``path``; it replaces ``path`` only if the block succeeds.

    Raises:
        UserError: the folder cannot be made or written to, or ``path`` is a folder.
    """
    path = Path(path)
    with _named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{path.name}."
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(temporary)
        os.chmod(temporary, 0o666 & ~_umask())
        with _named_errors(path):
            os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_folder(path) -> Iterator[Path]:
    """Yield an empty folder beside ``path``; it replaces ``path`` only if the block succeeds.

    Raises:
        UserError: the folder cannot be made, or ``path`` cannot be replaced.
    """
    path = Path(path)
    with _named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    new, old = holder / "new", holder / "old"
    try:
        new.mkdir()
        yield new
        with _named_errors(path):
            if path.exists():
                os.rename(path, old)
            os.rename(new, path)
    except BaseException:
        if old.exists() and not path.exists():
            os.rename(old, path)
        raise
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def write_text(path, text: str) -> None:
    """Write ``text`` to ``path`` atomically (UTF-8)."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, content, indent=None) -> None:
    """Write ``content`` as JSON to ``path`` atomically."""
    write_text(path, json.dumps(content, indent=indent) + "\n")


def read_json(path, kind: type = object, remedy: str = ""):
    """Return what a JSON file in UTF-8 holds, with or without a byte order mark.

    Args:
        path: of the file.
        kind: of the content, dict or list.
        remedy: what the user can do; ends the errors.

    Raises:
        DatasetError: there is no such plain file, it is not JSON, nested too deeply, or of another
            kind.
    """
    remedy = f" {remedy}" if remedy else ""
    if not os.path.isfile(path):  # A pipe would be waited for.
        raise DatasetError(f"There is no file {path}.{remedy}")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
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
    """Return ``root / name`` for a name that stands in a file, perhaps a stranger's.

    Sub-folders are allowed, and links that lie below ``root``; the path need not exist. Paths that
    the user himself gives do not come here, they may lead anywhere.

    Args:
        root: the folder that the name must not leave.
        name: a relative path, with "/" between its parts.
        where: the file that it stands in, for the error.

    Raises:
        DatasetError: the name is no text, empty, absolute, of a drive, holds "\\" or a NUL, or
            goes up by "..".
    """
    if not leads_inside(name):
        raise DatasetError(
            f"{where}: the file name {name!r} could lead out of {root}. Write it relative to that "
            "folder, as 'a.png' or 'sub/a.png', without '..', '\\' or a drive."
        )
    return Path(root) / name


def leads_inside(name) -> bool:
    """Whether a relative path, of any system, stays below the folder that it starts from."""
    if not isinstance(name, str) or not name or re.search(r"[\\\0]|^/|^[A-Za-z]:", name):
        return False
    return ".." not in name.split("/")


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{path}: cannot be written ({error.strerror}). Choose another place."
        raise UserError(message) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
