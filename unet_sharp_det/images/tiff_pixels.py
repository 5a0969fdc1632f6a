"""Windows of the pixels in a TIFF: only what they touch is read, and files are closed between."""

import os
from functools import lru_cache
from itertools import product
from math import ceil, prod
from operator import mul

import numpy as np

from ..errors import DatasetError, library_errors
from .tiff_codecs import ChunkDecoder

# Decoded strips and tiles that are kept, because neighbouring windows touch the same ones.
CACHE_BYTES = 2**27
_READ_WHOLE = 4096  # Axes of fewer bytes are read whole: the samples of a pixel, a short row.


class RawPixels:
    """Uncompressed pixels that lie in one piece, ``dtype`` with the byte order, read by slices.

    Raises:
        DatasetError: the file ends before its pixels do.
    """

    def __init__(self, path: str, offset: int, dtype: np.dtype, shape: tuple[int, ...]):
        self.path, self.offset, self.dtype, self.shape = path, offset, dtype, shape
        if offset + prod(shape) * dtype.itemsize > os.path.getsize(path):
            raise self._truncated()

    def __getitem__(self, slices: tuple[slice, ...]) -> np.ndarray:
        """Return the array of slices, one per axis, each with start and stop.

        The file is not mapped: one that gets shorter meanwhile would end the process.
        """
        steps = [prod(self.shape[k:]) * self.dtype.itemsize for k in range(1, len(self.shape) + 1)]
        axis = len(steps) - 1  # along which values are read at once
        while axis and steps[axis - 1] <= _READ_WHOLE:
            axis -= 1
        start, stop = slices[axis].start, slices[axis].stop
        length = (stop - start) * steps[axis]
        out = np.empty([part.stop - part.start for part in slices], self.dtype)
        targets = out.reshape(-1, *out.shape[axis:])
        outer = product(*(range(part.start, part.stop) for part in slices[:axis]))
        with open(self.path, "rb", buffering=0) as file:
            for index, target in zip(outer, targets, strict=True):
                place = self.offset + sum(map(mul, (*index, start), steps))
                data = os.pread(file.fileno(), length, place)
                if len(data) < length:
                    raise self._truncated()
                values = np.frombuffer(data, self.dtype).reshape(-1, *self.shape[axis + 1 :])
                target[:] = values[(slice(None), *slices[axis + 1 :])]
        return out

    def _truncated(self) -> DatasetError:
        return DatasetError(f"{self.path}: is truncated: the file ends before its pixels do.")


class ChunkedPixels:
    """The pixels of a series of tifffile's in strips or tiles, read by slices.

    Raises:
        DatasetError: a strip or tile exceeds ``max_pixels``, or lies behind the end of its file.
    """

    def __init__(self, series, shape: tuple[int, ...], max_pixels: int):
        keyframe = series.keyframe
        self.shape, self.dtype = shape, series.dtype
        self.page_shape = keyframe.shaped  # separate samples, depth, length, width, samples
        self.nodata = keyframe.nodata or 0
        _, depth, length, width, samples = self.page_shape
        if keyframe.is_tiled:
            self.chunk = (keyframe.tiledepth, keyframe.tilelength, keyframe.tilewidth)
        else:
            self.chunk = (1, min(keyframe.rowsperstrip, length), width)
        self.grid = tuple(
            ceil(n / c) for n, c in zip((depth, length, width), self.chunk, strict=True)
        )
        self._pages = [
            (page.parent.filehandle.path, page.dataoffsets, page.databytecounts, page.jpegtables)
            for page in series.pages
        ]
        self._leading = 0  # axes that number the pages
        while prod(shape[self._leading :]) > prod(self.page_shape):
            self._leading += 1
        self._check(max_pixels, "tile" if keyframe.is_tiled else "strip")
        self._decode = ChunkDecoder(keyframe)
        chunk_bytes = prod(self.chunk) * samples * self.dtype.itemsize
        self._chunk = lru_cache(CACHE_BYTES // chunk_bytes)(self._read_chunk)

    def _check(self, max_pixels: int, kind: str) -> None:
        if prod(self.chunk) * max(1, self.page_shape[-1] / 4) > max_pixels:
            raise DatasetError(
                f"{self._pages[0][0]}: a single {kind} has {' x '.join(map(str, self.chunk[-2:]))} "
                f"pixels. Save it as tiled TIFF, or raise --max-pixels (now {max_pixels})."
            )
        sizes = {path: os.path.getsize(path) for path in {path for path, *_ in self._pages}}
        expected = self.page_shape[0] * prod(self.grid)
        for number, (path, offsets, counts, _) in enumerate(self._pages):
            ends = list(map(sum, zip(offsets, counts, strict=False)))
            if len(ends) < expected or max(ends) > sizes[path]:
                raise DatasetError(
                    f"{path}: page {number} is truncated or corrupt: the file ends before its "
                    "strips or tiles do."
                )

    def __getitem__(self, slices: tuple[slice, ...]) -> np.ndarray:
        """Return the array of slices, one per axis, each with start and stop."""
        leading = self._leading
        numbers = np.arange(len(self._pages)).reshape(self.shape[:leading])[slices[:leading]]
        inner = iter(
            part for part, n in zip(slices[leading:], self.shape[leading:], strict=True) if n > 1
        )
        parts = [slice(0, 1) if size == 1 else next(inner) for size in self.page_shape]
        out = np.empty((numbers.size, *(part.stop - part.start for part in parts)), self.dtype)
        for number, target in zip(numbers.flat, out, strict=True):
            self._read_page(int(number), parts, target)
        return out.reshape([part.stop - part.start for part in slices])

    def _read_page(self, number: int, parts: list[slice], out: np.ndarray) -> None:
        samples, *space, channels = parts
        touched = [
            range(part.start // c, ceil(part.stop / c))
            for part, c in zip(space, self.chunk, strict=True)
        ]
        for sample, *index in product(range(samples.start, samples.stop), *touched):
            linear = int(np.ravel_multi_index((sample, *index), (self.page_shape[0], *self.grid)))
            chunk = self._chunk(number, linear)
            source, target = [], []
            for i, c, part, size in zip(index, self.chunk, space, chunk.shape, strict=False):
                low, high = max(i * c, part.start), min(i * c + size, part.stop)
                source.append(slice(low - i * c, high - i * c))
                target.append(slice(low - part.start, high - part.start))
            out[(sample - samples.start, *target)] = chunk[(*source, channels)]

    def _read_chunk(self, number: int, linear: int) -> np.ndarray:
        """Return a decoded strip or tile: (depth, length, width, samples)."""
        path, offsets, counts, tables = self._pages[number]
        offset, count = offsets[linear], counts[linear]
        if not offset or not count:  # a sparse file
            return np.full((*self.chunk, self.page_shape[-1]), self.nodata, self.dtype)
        where = f"{path}: strip or tile {linear} of page {number}"
        with library_errors(f"{where} cannot be decoded"), open(path, "rb") as file:
            data = os.pread(file.fileno(), count, offset)
            if len(data) < count:
                raise DatasetError(f"{where} is truncated.")
            return self._decode(data, linear, tables)
