"""Atomic writing: a file is either the old one or the complete new one, never half of it."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from unet_sharp_det.errors import UserError


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


def write_text(path, text: str) -> None:
    """Write ``text`` to ``path`` atomically (UTF-8)."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, content, indent=None) -> None:
    """Write ``content`` as JSON to ``path`` atomically."""
    write_text(path, json.dumps(content, indent=indent) + "\n")


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
