"""Unpacking an archive of unknown origin into a folder that nothing can leave."""

import contextlib
import functools
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from ..errors import DatasetError
from ..files import leads_inside

#: Of what an archive may unpack to: 100 times its own size (images are compressed already) or
#: 1 GiB, whichever is more, but not more than 9 tenths of the free space.
_LARGEST_RATIO, _SMALL = 100, 2**30
_SHARE_OF_FREE_SPACE = 0.9
_MOST_MEMBERS = 2_000_000


class _Member(NamedTuple):
    name: str
    size: int
    is_folder: bool
    is_file: bool
    open: Callable[[], IO[bytes]]


@contextlib.contextmanager
def unpacked(archive):
    """Unpack ``archive`` into a temporary folder, yield it, and remove it at the end.

    Only plain files and folders inside the target are taken, two million at most, and in all
    100 times the archive's size or 1 GiB, if nine tenths of the free space hold that. The folder
    lies where ``TMPDIR`` says, so neither a refused archive nor an interrupted run leaves anything
    in a data set.

    Args:
        archive: a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file, told by its content.

    Raises:
        DatasetError: the file is no such archive, is broken, encrypted or too large unpacked, or a
            member is a link, a device, would be written outside of the target, or has a name that
            no file can have.
    """
    archive = Path(archive)
    with tempfile.TemporaryDirectory(prefix="unet_sharp_det-") as folder:
        try:
            _extract(archive, Path(folder))
        except DatasetError:
            raise
        except Exception as error:  # Those of zipfile, tarfile, their decoders and the file system.
            raise DatasetError(
                f"{archive}: the archive is broken, or cannot be unpacked here ({error}). "
                "Fetch it again, or unpack it yourself and give the folder."
            ) from error
        yield Path(folder)


def _extract(archive: Path, folder: Path) -> None:
    room = _Room(archive, folder)
    for member in _members(archive, room):
        room.take(member.size)
        _check_member(archive, member)
        target = folder / member.name
        (target if member.is_folder else target.parent).mkdir(parents=True, exist_ok=True)
        if member.is_file:
            with member.open() as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)


def _members(archive: Path, room: "_Room") -> Iterator[_Member]:
    """Yield the members; those of a tar must be read before the next one."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as package:
            for info in package.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                is_file = not info.is_dir() and kind in (0, stat.S_IFREG)
                opens = functools.partial(package.open, info)
                yield _Member(info.filename, info.file_size, info.is_dir(), is_file, opens)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for info in tar:
                opens = functools.partial(tar.extractfile, info)
                yield _Member(info.name, info.size, info.isdir(), info.isfile(), opens)
            # A tar ends before its compressed stream does, whose checksum stands at the very end.
            while rest := tar.fileobj.read(1 << 20):
                room.take(len(rest))
    else:
        raise DatasetError(f"{archive}: neither a folder nor a readable .zip or .tar archive.")


class _Room:
    """Counts what an archive unpacks to; zipfile and tarfile hold members to the size they tell."""

    def __init__(self, archive: Path, folder: Path):
        self._archive = archive
        free = int(shutil.disk_usage(folder).free * _SHARE_OF_FREE_SPACE)
        self._limit = min(free, max(_SMALL, _LARGEST_RATIO * archive.stat().st_size))
        self._bytes = self._members = 0

    def take(self, size: int) -> None:
        """Count a member of ``size`` bytes."""
        self._bytes += size
        self._members += 1
        if self._bytes > self._limit or self._members > _MOST_MEMBERS:
            raise DatasetError(
                f"{self._archive}: unpacks to more than {self._limit / 2**20:.0f} MiB or "
                f"{_MOST_MEMBERS:,} files, as one made to fill the disk does. If you trust it, "
                "unpack it yourself and give the folder; or let TMPDIR name a place with more room."
            )


def _check_member(archive: Path, member: _Member) -> None:
    if not leads_inside(member.name.replace("\\", "/")):
        fault = "would be written outside of the target folder"
    elif not (member.is_file or member.is_folder):
        fault = "is a link or a device, not a file or folder"
    else:
        return
    raise DatasetError(
        f"{archive}: member {member.name!r} {fault}. "
        "Nothing was unpacked; fetch the archive from a source that you trust."
    )
