"""Unpacking an archive of unknown origin into a folder that nothing can leave."""

import contextlib
import shutil
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path

from ..errors import DatasetError
from ..files import leads_inside

#: Of what an archive may unpack to: 100 times its own size (images are compressed already) or
#: 1 GiB, whichever is more, but not more than 9 tenths of the free space.
_LARGEST_RATIO, _SMALL = 100, 2**30
_SHARE_OF_FREE_SPACE = 0.9
_MOST_MEMBERS = 2_000_000


@contextlib.contextmanager
def unpacked(archive):
    """Unpack ``archive`` into a temporary folder, yield it, and remove it at the end.

    It lies where ``TMPDIR`` says, so that nothing is left in a data set.

    Args:
        archive: a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file, told by its content.

    Raises:
        DatasetError: the file is no such archive, is broken, encrypted or too large unpacked, or a
            member is no plain file or folder, lies outside, or has a name that no file can have.
    """
    archive = Path(archive)
    with tempfile.TemporaryDirectory(prefix="unet_sharp_det-") as folder:
        try:
            _extract(archive, folder)
        except DatasetError:
            raise
        except Exception as error:  # Those of zipfile, tarfile, their decoders and the file system.
            raise DatasetError(
                f"{archive}: is broken, or cannot be unpacked here ({error}). Fetch it again, or "
                "unpack it and give the folder."
            ) from error
        yield Path(folder)


def _extract(archive: Path, folder: str) -> None:
    gate = _Gate(archive, folder)
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as package:
            for info in package.infolist():
                is_file = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
                gate.check(info.filename, info.file_size, is_file or info.is_dir())
                package.extract(info, folder)
    elif tarfile.is_tarfile(archive):
        if not hasattr(tarfile, "data_filter"):
            raise DatasetError(
                f"{archive}: tar archives need Python 3.10.12 or newer. Unpack it, give the folder."
            )
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter=gate.filter)
            # A tar ends before its compressed stream does, whose checksum stands at the very end.
            while rest := tar.fileobj.read(1 << 20):
                gate.count(len(rest))
    else:
        raise DatasetError(f"{archive}: neither a folder nor a readable .zip or .tar archive.")


class _Gate:
    """What members must be, and their sum; zipfile and tarfile hold them to the size they tell."""

    def __init__(self, archive: Path, folder: str):
        self._archive = archive
        free = int(shutil.disk_usage(folder).free * _SHARE_OF_FREE_SPACE)
        self._limit = min(free, max(_SMALL, _LARGEST_RATIO * archive.stat().st_size))
        self._bytes = self._members = 0

    def filter(self, info: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
        """Return a member as tarfile is to write it: without the archive's rights and times."""
        self.check(info.name, info.size, info.isfile() or info.isdir())
        return tarfile.data_filter(info, folder).replace(mtime=None, deep=False)

    def check(self, name: str, size: int, is_plain: bool) -> None:
        self.count(size)
        if not leads_inside(name.replace("\\", "/")):
            fault = "would be written outside of the target folder"
        elif not is_plain:
            fault = "is a link or a device, not a file or folder"
        else:
            return
        raise DatasetError(f"{self._archive}: member {name!r} {fault}. Fetch it elsewhere.")

    def count(self, size: int) -> None:
        self._bytes += size
        self._members += 1
        if self._bytes > self._limit or self._members > _MOST_MEMBERS:
            raise DatasetError(
                f"{self._archive}: unpacks to more than {self._limit / 2**20:.0f} MiB or "
                f"{_MOST_MEMBERS:,} files. If you trust it, unpack it and give the folder."
            )
