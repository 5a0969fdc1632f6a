"""Unpacking an archive of unknown origin into a folder that nothing can leave."""

import contextlib
import gzip
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.files import leads_inside

#: Of what an archive may unpack to: 100 times its own size (images are compressed already) or
#: 1 GiB, whichever is more, but not more than 9 tenths of the free space.
_LARGEST_RATIO, _SMALL = 100, 2**30
_SHARE_OF_FREE_SPACE = 0.9
_MOST_MEMBERS = 2_000_000

_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    NotImplementedError,  # zipfile's word for a compression that it does not know
)


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
            member is a link, a device, or would be written outside of the target.
    """
    archive = Path(archive)
    with tempfile.TemporaryDirectory(prefix="unet_sharp_det-") as folder:
        if zipfile.is_zipfile(archive):
            extract = _extract_zip
        elif tarfile.is_tarfile(archive):
            extract = _extract_tar
        else:
            raise DatasetError(f"{archive}: neither a folder nor a readable .zip or .tar archive.")
        try:
            extract(archive, folder)
        except _BROKEN as error:
            raise DatasetError(f"{archive}: the archive is broken ({error}).") from error
        yield Path(folder)


def _extract_tar(archive: Path, folder: str) -> None:
    with tarfile.open(archive) as tar:
        # Python 3.12 warns where no filter is set, and some 3.10 and 3.11 know none; the checks
        # below are stricter than the filter, which therefore never has to act.
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        room = _Room(archive, folder)
        for member in tar:
            room.take(member.size)
            _check_member(archive, member.name, member.isfile() or member.isdir())
            tar.extract(member, folder)
        # A tar ends before its compressed stream does, whose checksum is verified at the very end.
        while rest := tar.fileobj.read(1 << 20):
            room.take(len(rest))


def _extract_zip(archive: Path, folder: str) -> None:
    with zipfile.ZipFile(archive) as package:
        room = _Room(archive, folder)
        for member in package.infolist():
            room.take(member.file_size)
        for member in package.infolist():
            if member.flag_bits & 0x1:
                raise DatasetError(f"{archive}: member '{member.filename}' is encrypted.")
            kind = stat.S_IFMT(member.external_attr >> 16)
            _check_member(archive, member.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
            package.extract(member, folder)


class _Room:
    """Counts what an archive unpacks to; zipfile and tarfile hold members to the size they tell."""

    def __init__(self, archive: Path, folder: str):
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


def _check_member(archive: Path, name: str, is_plain: bool) -> None:
    if not leads_inside(name.replace("\\", "/")):
        raise DatasetError(
            f"{archive}: member '{name}' would be written outside of the target folder. "
            "Nothing was unpacked; fetch the archive from a source that you trust."
        )
    if not is_plain:
        raise DatasetError(
            f"{archive}: member '{name}' is a link or a device, not a file or folder. "
            "Nothing was unpacked; fetch the archive from a source that you trust."
        )
