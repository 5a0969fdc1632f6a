"""TIFF files of any kind as arrays that are read lazily, with the meaning of their values."""

import logging
import os
import struct
from collections.abc import Callable
from contextvars import ContextVar
from math import prod
from pathlib import Path

import numpy as np

from unet_sharp_det.errors import DatasetError, UserError

from .pixel_size import tiff_pixel_size
from .planes import PixelArray
from .tiff_chunks import ChunkedPixels, one_line

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_COLOUR_SPACES_READ = (0, 1, 2, 3, 4, 6, 32803)  # white or black is 0, RGB, palette, mask, YCbCr
_LOSSLESS = (1, 5, 8, 32773, 32946, 34925, 50000)  # in which YCbCr stays YCbCr
# Description, strips, tiles, resolution, palette, JPEG tables, ImageJ's metadata.
_TAGS_READ = (270, 273, 279, 282, 283, 320, 324, 325, 347, 50838, 50839)
_TYPE_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_ALPHA = (1, 2)  # kinds of extra samples

# While a file is opened tifffile logs nothing: what is wrong with it our errors say.
_is_opening: ContextVar[bool] = ContextVar("is_opening", default=False)
logging.getLogger("tifffile").addFilter(lambda record: not _is_opening.get())


def is_tiff(path) -> bool:
    """Return whether a file begins like a TIFF or BigTIFF."""
    with open(path, "rb") as file:
        return file.read(4) in _SIGNATURES


def open_tiff(path, series: int, max_pixels: int) -> PixelArray:
    """Open a series of a TIFF file without decoding it.

    Uncompressed pixels in one piece are mapped into memory, others read by strips or tiles. Of a
    pyramid the full resolution is taken.

    Args:
        path: the file.
        series: which series, from 0: an OME image, or pages of equal size.
        max_pixels: the largest strip or tile.

    Raises:
        DatasetError: the file is truncated, corrupt or of an unknown kind.
        UserError: there is no such series.
    """
    from tifffile import TiffFile

    path = Path(path)
    was_opening = _is_opening.set(True)
    try:
        with TiffFile(path) as tiff:
            return _describe(tiff, path, series, max_pixels)
    except UserError:
        raise
    except Exception as error:  # any kind may come out of a corrupt file
        raise DatasetError(f"{path}: cannot be read as TIFF: {one_line(error)}") from error
    finally:
        _is_opening.reset(was_opening)


def _describe(tiff, path: Path, number: int, max_pixels: int) -> PixelArray:
    if not len(tiff.pages):
        raise DatasetError(f"{path}: the TIFF file holds no page, or is truncated.")
    _check_directories(tiff, path)
    if not 0 <= number < len(tiff.series):
        raise UserError(
            f"{path}: there is no --series {number}; the file has the series 0 to "
            f"{len(tiff.series) - 1}."
        )
    series = tiff.series[number]
    page = series.keyframe
    shape = tuple(series.get_shape(False))
    if series.dtype is None or not shape or 0 in shape:
        raise DatasetError(f"{path}: holds no pixels, or pixels of an unknown type.")
    if series.dtype.kind not in "buif":
        raise DatasetError(f"{path}: pixels of type {series.dtype} cannot be read; use real ones.")
    _check_colours(page, path)
    palette = None
    if page.photometric == 3 and page.colormap is not None:
        palette = np.ascontiguousarray((page.colormap >> 8).astype(np.uint8).T)
    to_values, dtype = _interpretation(page, series.dtype)
    return PixelArray(
        pixels=_lazy_pixels(series, shape, path, max_pixels),
        letters=series.get_axes(False),
        shape=shape,
        dtype=dtype,
        colours=_count_colours(page),
        palette=palette,
        orientation=int(page.tags.valueof(274, 1)),
        pixel_size=tiff_pixel_size(tiff, page, number),
        series_count=max(1, sum(not each.keyframe.is_reduced for each in tiff.series)),
        to_values=to_values,
    )


def _check_directories(tiff, path: Path) -> None:
    """Raise :class:`DatasetError` if the first or last page points behind the end of the file.

    tifffile leaves out further pages, and tags such as the OME description, which lie there.
    """
    if tiff.is_ndpi:  # whose offsets have bits elsewhere
        return
    layout, file = tiff.tiff, tiff.filehandle
    entry = struct.Struct(layout.byteorder + ("HHQQ" if layout.offsetsize == 8 else "HHII"))
    for page in (tiff.pages[0], tiff.pages[-1]):
        file.seek(page.offset)
        (count,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
        tags = file.read(count * layout.tagsize)
        (following,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
        ends = [following + 1]
        for code, kind, number, offset in entry.iter_unpack(tags):
            length = number * _TYPE_BYTES.get(kind, 1)
            if code in _TAGS_READ and length > layout.offsetsize:
                ends.append(offset + length)
        if max(ends) > file.size:
            raise DatasetError(f"{path}: is truncated: pages or metadata lie behind its end.")


def _check_colours(page, path: Path) -> None:
    photometric = int(page.photometric)
    unmixed = photometric == 6 and int(page.compression) in _LOSSLESS
    if photometric not in _COLOUR_SPACES_READ or unmixed:
        kind = getattr(page.photometric, "name", photometric)
        raise DatasetError(f"{path}: the colour space {kind} is not read. Save it as RGB or gray.")


def _count_colours(page) -> int:
    alpha = sum(int(kind) in _ALPHA for kind in page.extrasamples)
    if page.photometric == 2 and page.samplesperpixel == 4:
        alpha = 1
    return page.samplesperpixel - alpha


def _interpretation(page, dtype: np.dtype) -> tuple[Callable, np.dtype]:
    """Return what turns pixels as read into values, and their type.

    As :func:`unet_sharp_det.images.decoding.read_image` has them: fewer than 8 bit fill 0 to 255,
    and 0 as white is inverted, at more than 8 bit however it is not.
    """
    dtype = dtype.newbyteorder("=")
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 8
    palette = page.photometric == 3
    is_small = dtype.kind == "b" or (dtype == np.uint8 and bits < 8 and not palette)
    if not is_small and not (dtype == np.uint8 and page.photometric == 0):
        return lambda pixels: pixels.astype(dtype, copy=False), dtype
    top = 1 if dtype.kind == "b" else 2**bits - 1
    table = np.rint(np.arange(top + 1) * (255 / top)).astype(np.uint8)
    table = table[::-1] if page.photometric == 0 else table
    return lambda pixels: table[pixels.astype(np.uint8, copy=False)], np.dtype(np.uint8)


def _lazy_pixels(series, shape: tuple[int, ...], path: Path, max_pixels: int):
    if any(page is None for page in series.pages):
        raise DatasetError(f"{path}: pages of the series lack, or the files that hold them.")
    if series.dataoffset is not None and series.transform is None:
        source = series.keyframe.parent
        dtype = np.dtype(source.byteorder + series.dtype.char)
        place = source.filehandle.path
        if series.dataoffset + prod(shape) * dtype.itemsize > os.path.getsize(place):
            raise DatasetError(f"{place}: is truncated: the file ends before its pixels do.")
        return np.memmap(place, dtype, "r", series.dataoffset, shape)
    if series.transform is not None or prod(shape) != len(series.pages) * series.keyframe.size:
        if prod(shape) > max_pixels:
            raise DatasetError(
                f"{path}: its kind of TIFF is decoded as a whole, and {prod(shape)} values are "
                f"more than --max-pixels {max_pixels}. Save it anew as tiled TIFF."
            )
        return series.asarray(squeeze=False)
    return ChunkedPixels(series, shape, max_pixels)
