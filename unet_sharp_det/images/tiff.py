"""TIFF files of any kind as arrays that are read lazily, with the meaning of their values."""

import contextlib
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from math import prod
from pathlib import Path

import numpy as np

from ..errors import DatasetError, library_errors, one_line
from .directories import open_checked
from .ome import OmeImage, select_image
from .pixel_size import tiff_pixel_size
from .planes import PixelArray, check_series, meant_values
from .tiff_pixels import ChunkedPixels, RawPixels

logger = logging.getLogger(__name__)

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_COLOUR_SPACES_READ = (0, 1, 2, 3, 4, 6, 32803)  # white or black is 0, RGB, palette, mask, YCbCr
_YCBCR_DECODED = (6, 7, 33003, 33004, 33005, 33007, 34712, 34892, 50001)  # which give RGB
_ALPHA = (1, 2)  # kinds of extra samples
_MOST_SCN = 1000  # channels, or planes, in the XML of Leica SCN
# A larger image has more pixels than this times the bytes of its file only if it is made to.
_PIXELS_PER_BYTE = 1000

# While a file is opened tifffile logs nothing: what is wrong with it our errors say.
_is_opening: ContextVar[bool] = ContextVar("is_opening", default=False)
logging.getLogger("tifffile").addFilter(lambda record: not _is_opening.get())


def is_tiff(path) -> bool:
    """Return whether a file begins like a TIFF; a pipe or device is a :class:`DatasetError`."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DatasetError(f"{path}: is a pipe or device, not an image file.")
    with open(path, "rb") as file:
        return file.read(4) in _SIGNATURES


def open_tiff(path, series: int, max_pixels: int) -> PixelArray:
    """Open a series of a TIFF file without decoding it, with the levels of a pyramid.

    Args:
        series: which series, from 0: an OME image that begins in the file, or pages of equal size.
        max_pixels: the largest strip or tile.

    Raises:
        DatasetError: the file is truncated, corrupt or of an unknown kind.
        UserError: there is no such series.
    """
    path = Path(os.path.realpath(path))  # As tifffile names the file that a page is of.
    was_opening = _is_opening.set(True)
    try:
        with library_errors(f"{path}: cannot be read as TIFF"):
            tiff, layouts = open_checked(path)
            with tiff:
                return _describe(tiff, path, layouts, series, max_pixels)
    finally:
        _is_opening.reset(was_opening)


def _describe(tiff, path: Path, layouts, number: int, max_pixels: int) -> PixelArray:
    if not len(tiff.pages):
        raise DatasetError(f"{path}: the TIFF file holds no page, or is truncated.")
    series, count, ome = _find_series(tiff, path, layouts, number)
    page = series.keyframe
    shape = tuple(series.get_shape(False))
    if series.dtype is None or not shape or 0 in shape:
        raise DatasetError(f"{path}: holds no pixels, or pixels of an unknown type.")
    _check_colours(page, path)
    _check_pages(series, ome.layouts if ome else {str(path): layouts}, path)
    palette = None
    if page.photometric == 3 and page.colormap is not None:
        palette = np.ascontiguousarray((page.colormap >> 8).astype(np.uint8).T)
    alpha = sum(int(kind) in _ALPHA for kind in page.extrasamples)
    if page.photometric == 2 and page.samplesperpixel == 4:
        alpha = 1
    dtype, to_values = _interpretation(page, series.dtype, str(path))
    return PixelArray(
        pixels=_lazy_pixels(series, shape, path, max_pixels),
        levels=tuple(_levels(series, path, max_pixels)),
        letters=series.get_axes(False),
        shape=shape,
        dtype=dtype,
        colours=page.samplesperpixel - alpha,
        palette=palette,
        orientation=int(page.tags.valueof(274, 1)),
        pixel_size=ome.pixel_size if ome else tiff_pixel_size(tiff, page),
        series_count=count,
        channel_names=ome.channels if ome else (),
        to_values=to_values,
    )


def _find_series(tiff, path: Path, layouts, number: int) -> tuple[object, int, OmeImage | None]:
    """Return tifffile's series, how many are no reduced copies, and what OME-XML says of it."""
    if tiff.is_ome:
        ome = select_image(tiff.ome_metadata or "", path, layouts, number)
        if ome is None:
            tiff.is_ome = False
        else:
            tiff.pages.first.description = ome.xml
    found = _all_series(tiff, path)
    if found and found[0].kind == "ome":
        return found[0], ome.count, ome
    check_series(path, number, len(found))
    return found[number], max(1, sum(not each.keyframe.is_reduced for each in found)), None


def _all_series(tiff, path: Path) -> list:
    from tifffile import TIFF

    if tiff.is_scn:  # tifffile makes a table of its channels and planes
        numbers = re.findall(r"\b[cz]=[\"'](\d+)", tiff.pages[0].description)
        if max(map(int, numbers), default=0) > _MOST_SCN:
            raise DatasetError(f"{path}: its XML names more than {_MOST_SCN} channels or planes.")
    try:
        return tiff.series
    except Exception as error:  # any kind may come out of corrupt metadata
        logger.warning(
            f"{path}: its axes cannot be read ({one_line(error)}). Each page is a plane."
        )
        for kind in TIFF.FILE_FLAGS:
            setattr(tiff, f"is_{kind}", False)
        return tiff.series


def _check_pages(series, layouts: dict[str, dict[int, tuple]], path: Path) -> None:
    """Raise :class:`DatasetError` unless all pages can be decoded as the first one is."""
    found = set()
    for page in series.pages:
        if page is None:
            raise DatasetError(f"{path}: pages of the series lack, or the files that hold them.")
        found.add(layouts[str(page.parent.filehandle.path)].get(page.offset))
    if len(found - {None}) > 1:
        raise DatasetError(
            f"{path}: pages of one image differ in size, type or compression. Save it anew."
        )


def _check_colours(page, path: Path) -> None:
    photometric = int(page.photometric)
    unmixed = photometric == 6 and int(page.compression) not in _YCBCR_DECODED
    if photometric not in _COLOUR_SPACES_READ or unmixed:
        kind = getattr(page.photometric, "name", photometric)
        raise DatasetError(f"{path}: the colour space {kind} is not read. Save it as RGB or gray.")


def _interpretation(page, dtype: np.dtype, where: str) -> tuple[np.dtype, Callable]:
    """Return the type of the values, and what turns pixels as read into them; see
    :func:`.meant_values`.

    Fewer than 8 bit fill 0 to 255. Where 0 is white, up to 8 bit are inverted.
    """
    meant = meant_values(dtype, where)
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 8
    if page.photometric == 3:
        number = np.dtype(f"u{dtype.itemsize}") if dtype.kind in "bi" else meant[0]
        return number, lambda pixels: pixels.astype(number, copy=False)
    is_small = dtype.kind == "b" or (dtype == np.uint8 and bits < 8)
    if not is_small and not (dtype == np.uint8 and page.photometric == 0):
        return meant
    top = 1 if dtype.kind == "b" else 2**bits - 1
    table = np.rint(np.arange(top + 1) * (255 / top)).astype(np.uint8)
    table = table[::-1] if page.photometric == 0 else table
    return np.dtype(np.uint8), lambda pixels: table[pixels.astype(np.uint8, copy=False)]


def _levels(series, path: Path, max_pixels: int) -> Iterator[tuple[object, tuple[int, ...]]]:
    """Yield the reduced copies whose values mean what those of the series do."""

    def meaning(level):
        page = level.keyframe
        values = page.photometric, page.bitspersample, page.samplesperpixel
        return level.get_axes(False), level.dtype, *values

    for level in series.levels[1:]:
        with contextlib.suppress(DatasetError):  # The image is whole without it.
            if None not in level.pages and meaning(level) == meaning(series):
                shape = tuple(level.get_shape(False))
                yield _lazy_pixels(level, shape, path, max_pixels), shape


def _lazy_pixels(series, shape: tuple[int, ...], path: Path, max_pixels: int):
    keyframe, values = series.keyframe, prod(shape)
    files = {page.parent.filehandle.path for page in series.pages}
    if values > max(max_pixels * 4, _PIXELS_PER_BYTE * sum(map(os.path.getsize, files))):
        raise DatasetError(f"{path}: has {values:,} values, far more than its bytes can hold.")
    if len(files) == 1 and series.dataoffset is not None and series.transform is None:
        dtype = np.dtype(keyframe.parent.byteorder + series.dtype.char)
        return RawPixels(keyframe.parent.filehandle.path, series.dataoffset, dtype, shape)
    if series.transform is not None or values != len(series.pages) * keyframe.size:
        raise DatasetError(f"{path}: its metadata and its pages do not fit. Save it anew as TIFF.")
    return ChunkedPixels(series, shape, max_pixels)
