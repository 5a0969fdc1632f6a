"""Files at addresses of fsspec, such as ``s3://bucket/a.pth``, for code that takes paths.

What is read is kept below :func:`iopath.common.file_io.get_cache_dir`, ``$FVCORE_CACHE`` or
``~/.torch/iopath_cache``.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .errors import UserError, disk_error, first_line, one_line

# What detectron2 fetches by itself.
_DETECTRON2 = ("detectron2", "http", "https")
_CONNECTIONS = 16


def address_of(path) -> str | None:
    """Return an address such as ``s3://bucket/a.zarr``, or None of a path of a file.

    A ``Path`` of an address will do, though it has one slash where the address has several.
    """
    match = re.fullmatch(r"([a-z][a-z0-9+:]+):/+(.+)", os.fspath(path))
    if match is None:
        return None
    scheme, rest = match.groups()
    return f"{scheme}:{'///' if scheme == 'file' else '//'}{rest}"


def local_path(path) -> Path:
    """Return a path; of an address the file that it was fetched to, anew if it has changed.

    An address without a file is returned as it is, a path that does not exist.

    Raises:
        UserError: the store cannot be reached, or its package is missing.
    """
    address = address_of(path)
    if address is None:
        return Path(path)
    with explained(address):
        if address.partition(":")[0] not in _DETECTRON2:
            return _fetch(address)
        from detectron2.utils.file_io import PathManager

        return Path(PathManager.get_local_path(address))


def local_paths(paths: Iterable) -> list[Path]:
    """Return the :func:`local_path` of each, fetched at the same time."""
    paths = list(paths)
    if not any(map(address_of, paths)):
        return list(map(Path, paths))
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        return list(pool.map(local_path, paths))


def folders_with(root, name: str) -> list[str]:
    """Return the names of the folders in a folder, or at an address, that hold a file ``name``.

    Raises:
        UserError: see :func:`local_path`.
    """
    address = address_of(root)
    if address is None:
        return sorted(file.parent.name for file in Path(root).glob(f"*/{name}"))
    from fsspec.core import url_to_fs

    with explained(address):
        store, folder = url_to_fs(address)
        return sorted(Path(file).parent.name for file in store.glob(f"{folder}/*/{name}"))


@contextlib.contextmanager
def explained(address: str) -> Iterator[None]:
    """Turn what the library of a store raises into a UserError, but for a full disk here."""
    try:
        yield
    except ImportError as error:
        raise UserError(f"{address}: a package is missing. {first_line(error)}.") from error
    except Exception as error:
        if isinstance(error, UserError) or disk_error(error):
            raise
        raise UserError(
            f"{address}: cannot be reached ({one_line(error)}). Check the address, and what you "
            "may do there."
        ) from error


def _fetch(address: str) -> Path:
    from fsspec.core import url_to_fs
    from iopath.common.file_io import file_lock, get_cache_dir

    store, source = url_to_fs(address)
    source = os.path.normpath(source)  # A config's _BASE_ may begin with "../".
    try:
        state = f"{address} {store.checksum(source)}"
    except FileNotFoundError:
        return Path(address)
    folder = hashlib.sha256(state.encode()).hexdigest()[:16]
    found = Path(get_cache_dir(), "fsspec", folder, os.path.basename(source))
    with file_lock(str(found)):  # Workers of one machine ask for the same file.
        if not found.exists():
            part = found.with_name("part")
            store.get_file(source, part)
            part.replace(found)
    return found
