"""Unpacking an archive of unknown origin into a folder that nothing can leave."""

import contextlib
import gzip
import lzma
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from unet_sharp_det.errors import DatasetError

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

    Only plain files and folders inside the target are taken. The folder lies where ``TMPDIR``
    says, so neither a refused archive nor an interrupted run leaves anything in a data set.

    Args:
        archive: a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file, told by its content.

    Raises:
        DatasetError: the file is no such archive, is broken or encrypted, or a member is a link,
            a device, or would be written outside of the target.
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
        for member in tar:
            _check_member(archive, member.name, member.isfile() or member.isdir())
            tar.extract(member, folder)
        # A tar ends before its compressed stream does, whose checksum is verified at the very end.
        while tar.fileobj.read(1 << 20):
            pass


def _extract_zip(archive: Path, folder: str) -> None:
    with zipfile.ZipFile(archive) as package:
        for member in package.infolist():
            if member.flag_bits & 0x1:
                raise DatasetError(f"{archive}: member '{member.filename}' is encrypted.")
            kind = stat.S_IFMT(member.external_attr >> 16)
            _check_member(archive, member.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
            package.extract(member, folder)


def _check_member(archive: Path, name: str, is_plain: bool) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
        raise DatasetError(
            f"{archive}: member '{name}' would be written outside of the target folder. "
            "Nothing was unpacked; fetch the archive from a source that you trust."
        )
    if not is_plain:
        raise DatasetError(
            f"{archive}: member '{name}' is a link or a device, not a file or folder. "
            "Nothing was unpacked; fetch the archive from a source that you trust."
        )
