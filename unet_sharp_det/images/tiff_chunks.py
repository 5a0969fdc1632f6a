"""Windows of the pixels in a TIFF: only the rows, strips or tiles that they touch are read."""

import os
from collections import OrderedDict
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from threading import Lock

import numpy as np

from ..errors import DatasetError, UserError
from .chunk_codecs import ChunkDecoder

# Decoded strips and tiles that are kept, because neighbouring windows touch the same ones.
CACHE_BYTES = 2**27


# Axes at the end of fewer values than this, such as samples, are read whole and cut afterwards.
_SHORT_RUN = 64
_LONGEST_RUN = 2**30  # bytes: Linux reads at most 2**31 at once


class RawPixels:
    """Uncompressed pixels that lie in one piece, read by slices.

    Its file is open only while it reads, and is not mapped: a file that gets shorter is an error.

    Args:
        path: the file.
        offset: of the first value in it.
        dtype: of the values, with the file's byte order.
        shape: of all axes.

    Raises:
        DatasetError: the file ends before its pixels do.
    """

    def __init__(self, path: str, offset: int, dtype: np.dtype, shape: tuple[int, ...]):
        self.path, self.offset, self.dtype, self.shape = path, offset, dtype, shape
        if offset + prod(shape) * dtype.itemsize > os.path.getsize(path):
            raise self._truncated()

    def __getitem__(self, slices: tuple[slice, ...]) -> np.ndarray:
        """Return the array of slices, one per axis, each with start and stop."""
        whole = [slice(0, size) for size in self.shape]
        last = len(slices)
        while (
            last > 1
            and (slices[last - 1] == whole[last - 1] or self._is_short(last - 1))
            and self._bytes(last - 3) <= _LONGEST_RUN
        ):
            last -= 1
        read = [*slices[:last], *whole[last:]]  # from axis last - 1 on it is one piece of the file
        out = np.empty([part.stop - part.start for part in read], self.dtype)
        if out.size:
            with open(self.path, "rb", buffering=0) as file:
                self._fill(file.fileno(), read, last - 1, out)
        return out[(*[slice(None)] * last, *slices[last:])]

    def _fill(self, file: int, read: list[slice], axis: int, out: np.ndarray) -> None:
        """Read what lies in one piece from ``axis`` on, once for each index of the axes before."""
        offsets = np.array(self.offset + read[axis].start * self._bytes(axis))
        for number, part in enumerate(read[:axis]):
            steps = np.arange(part.start, part.stop) * self._bytes(number)
            offsets = np.add.outer(offsets, steps)
        runs = out.reshape(offsets.size, -1).view(np.uint8)
        places = zip(runs, offsets.reshape(-1).tolist(), strict=True)
        if sum(os.preadv(file, [run], offset) for run, offset in places) < out.nbytes:
            raise self._truncated()

    def _bytes(self, axis: int) -> int:
        """Return how far indices of an axis lie apart."""
        return prod(self.shape[axis + 1 :]) * self.dtype.itemsize

    def _is_short(self, axis: int) -> bool:
        return prod(self.shape[axis:]) < _SHORT_RUN

    def _truncated(self) -> DatasetError:
        return DatasetError(f"{self.path}: is truncated: the file ends before its pixels do.")


@dataclass(frozen=True)
class _Page:
    path: str
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    tables: bytes | None


class ChunkedPixels:
    """The pixels of a series in strips or tiles, read by slices; see :data:`CACHE_BYTES`.

    Its files are open only while it reads.

    Args:
        series: tifffile's, of pages that are loaded.
        shape: of all axes.
        max_pixels: the largest strip or tile, in pixels.

    Raises:
        DatasetError: a strip or tile is larger, or lies behind the end of its file.
    """

    def __init__(self, series, shape: tuple[int, ...], max_pixels: int):
        keyframe = series.keyframe
        self.shape = shape
        self.dtype = series.dtype
        self.page_shape = keyframe.shaped  # separate samples, depth, length, width, samples
        self._keyframe = keyframe
        self._decode = ChunkDecoder(keyframe)
        _, depth, length, width, _ = self.page_shape
        if keyframe.is_tiled:
            self.chunk = (keyframe.tiledepth, keyframe.tilelength, keyframe.tilewidth)
        else:
            self.chunk = (1, min(keyframe.rowsperstrip, length), width)
        self.grid = tuple(
            ceil(n / c) for n, c in zip((depth, length, width), self.chunk, strict=True)
        )
        self._pages = [_load_page(page) for page in series.pages]
        self._sizes = {path: os.path.getsize(path) for path in {page.path for page in self._pages}}
        self._cache: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._cached_bytes = 0
        self._lock = Lock()
        self._check(max_pixels)

    def _check(self, max_pixels: int) -> None:
        path = self._pages[0].path
        if prod(self.chunk) > max_pixels or prod(self.chunk) * self.page_shape[-1] > 4 * max_pixels:
            kind = "tile" if self._keyframe.is_tiled else "strip"
            raise DatasetError(
                f"{path}: a single {kind} has {' x '.join(map(str, self.chunk[-2:]))} pixels, more "
                f"than --max-pixels {max_pixels}. Save the image anew as tiled TIFF, e.g. with "
                f"tifffile.imwrite(..., tile=(256, 256)), or raise --max-pixels."
            )
        expected = self.page_shape[0] * prod(self.grid)
        for number, page in enumerate(self._pages):
            size = self._sizes[page.path]
            complete = len(page.offsets) >= expected and len(page.counts) >= expected
            if not complete or any(
                o + c > size for o, c in zip(page.offsets, page.counts, strict=False)
            ):
                raise DatasetError(
                    f"{page.path}: page {number} is truncated or corrupt: strips or tiles of it "
                    "lie behind the end of the file."
                )

    def __getitem__(self, slices: tuple[slice, ...]) -> np.ndarray:
        """Return the array of slices, one per axis, each with start and stop."""
        leading = 0
        while prod(self.shape[leading:]) > prod(self.page_shape):
            leading += 1
        inner = self._page_slices(slices[leading:], self.shape[leading:])
        lengths = [part.stop - part.start for part in slices]
        pages = product(*(range(part.start, part.stop) for part in slices[:leading]))
        window = [part.stop - part.start for part in inner]
        out = np.empty([prod(lengths[:leading]), *window], self.dtype)
        for place, index in enumerate(pages):
            number = int(np.ravel_multi_index(index, self.shape[:leading])) if index else 0
            self._read_page(number, inner, out[place])
        return out.reshape(lengths)

    def _page_slices(self, slices, shape) -> list[slice]:
        """Spread slices of the page's axes over the five of ``page_shape``: the others are 1."""
        rest = [part for part, size in zip(slices, shape, strict=True) if size > 1]
        spread = [slice(0, 1) if size == 1 else rest.pop(0) for size in self.page_shape]
        # An empty window of an axis of length 1 must stay empty.
        if any(part.stop <= part.start for part in slices):
            spread[2] = slice(0, 0)
        return spread

    def _read_page(self, number: int, parts: list[slice], out: np.ndarray) -> None:
        samples, *space, channels = parts
        touched = [
            range(part.start // c, ceil(part.stop / c)) if part.stop > part.start else range(0)
            for part, c in zip(space, self.chunk, strict=True)
        ]
        for sample in range(samples.start, samples.stop):
            for index in product(*touched):
                chunk = self._chunk(number, sample, index)
                start = [i * c for i, c in zip(index, self.chunk, strict=True)]
                source, target = [], []
                for first, part, size in zip(start, space, chunk.shape[:3], strict=True):
                    low, high = max(first, part.start), min(first + size, part.stop)
                    source.append(slice(low - first, high - first))
                    target.append(slice(low - part.start, high - part.start))
                out[(sample - samples.start, *target)] = chunk[(*source, channels)]

    def _chunk(self, number: int, sample: int, index: tuple[int, ...]) -> np.ndarray:
        """Return a decoded strip or tile: (depth, length, width, samples)."""
        linear = sample * prod(self.grid) + int(np.ravel_multi_index(index, self.grid))
        key = (number, linear)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        chunk = self._read_chunk(number, linear)
        with self._lock:
            if key not in self._cache and chunk.nbytes <= CACHE_BYTES:
                self._cache[key] = chunk
                self._cached_bytes += chunk.nbytes
            while self._cached_bytes > CACHE_BYTES:
                self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return chunk

    def _read_chunk(self, number: int, linear: int) -> np.ndarray:
        page = self._pages[number]
        offset, count = page.offsets[linear], page.counts[linear]
        where = f"{page.path}: strip or tile {linear} of page {number}"
        try:
            if not offset or not count:  # a sparse file
                chunk = None
            else:
                with open(page.path, "rb") as file:
                    file.seek(offset)
                    data = file.read(count)
                if len(data) < count:
                    raise DatasetError(f"{where} is truncated.")
                chunk = self._decode(data, linear, page.tables)
        except UserError:
            raise
        except Exception as error:  # any kind may come out of corrupt bytes
            raise DatasetError(f"{where} cannot be decoded: {one_line(error)}") from error
        if chunk is None:
            shape = (*self.chunk, self.page_shape[-1])
            return np.full(shape, self._keyframe.nodata or 0, self.dtype)
        return chunk


def _load_page(page) -> _Page:
    offsets, counts = tuple(page.dataoffsets), tuple(page.databytecounts)
    return _Page(str(page.parent.filehandle.path), offsets, counts, page.jpegtables)


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
