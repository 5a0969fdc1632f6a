"""Formats of microscopes' and scanners' makers, each read by a library that an extra installs."""

from collections.abc import Callable
from pathlib import PurePath
from typing import NamedTuple

from ..errors import library_errors, missing_package
from .czi import open_czi
from .lif import open_lif
from .nd2 import open_nd2
from .planes import PixelArray
from .slides import open_slide


class _Reader(NamedTuple):
    kind: str
    package: str
    extra: str  # of this package, which installs it
    open: Callable[[object, int], PixelArray]  # of a path, and which series, from 0


_SLIDE = _Reader("a slide", "OpenSlide", "slides", open_slide)
_READERS = {
    ".czi": _Reader("Zeiss CZI", "pylibCZIrw", "microscopes", open_czi),
    ".lif": _Reader("Leica LIF", "liffile", "microscopes", open_lif),
    ".nd2": _Reader("Nikon ND2", "nd2", "microscopes", open_nd2),
    # Slides that tifffile does not read, or does not put together: 3DHISTECH, Hamamatsu VMS, and
    # Ventana, whose tiles overlap.
    **dict.fromkeys((".mrxs", ".vms", ".bif"), _SLIDE),
}

#: By which these files are known.
SUFFIXES = tuple(_READERS)


def is_vendor_file(path) -> bool:
    """Return whether the name of a file is that of one of these formats."""
    return PurePath(path).suffix.lower() in _READERS


def open_vendor_file(path, series: int) -> PixelArray:
    """Open an image without reading its pixels.

    Args:
        path: the file.
        series: which scene, position or image of the file, from 0.

    Raises:
        DatasetError: the file is corrupt, or has pixels that are not read.
        UserError: the package that reads it is missing, or there is no such series.
    """
    reader = _READERS[PurePath(path).suffix.lower()]
    with library_errors(f"{path}: cannot be read as {reader.kind}"):
        try:
            return reader.open(path, series)
        except ModuleNotFoundError as error:
            what = f"{path}: {reader.kind}"
            raise missing_package(what, reader.package, reader.extra) from error
