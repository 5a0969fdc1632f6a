"""Windows of one plane of an array that has any axes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import DatasetError
from .axes import ImageAxes, Plane

_ORIENTATIONS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclass(frozen=True)
class PixelArray:
    """An array of pixels with named axes, and what its values mean.

    Attributes:
        pixels: what ``pixels[slices]`` reads lazily, one slice per axis.
        letters: of the axes, as tifffile names them.
        shape: of the axes, those of length 1 included.
        dtype: of the values that ``to_values`` returns.
        colours: how many samples of a pixel are not alpha.
        palette: uint8 (N, 3), RGB of each value, or None.
        orientation: the tag of that name, 1 to 8.
        pixel_size: (y, x) in micrometres, or None.
        series_count: how many images the file holds, reduced copies not counted.
        channel_names: of the channels, or empty.
        to_values: turns what was read into the values that are meant: 0 and 255 for bits, and
            the inverse where 0 is white.
    """

    pixels: object
    letters: str
    shape: tuple[int, ...]
    dtype: np.dtype
    colours: int
    palette: np.ndarray | None
    orientation: int
    pixel_size: tuple[float, float] | None
    series_count: int
    channel_names: tuple[str, ...]
    to_values: Callable[[np.ndarray], np.ndarray]

    @property
    def turns(self) -> tuple[bool, bool, bool]:
        """Whether rows and columns are swapped, and the (then) rows and columns run backwards."""
        return _ORIENTATIONS.get(self.orientation, _ORIENTATIONS[1])


@dataclass(frozen=True)
class PlaneReader:
    """Reads windows of a plane: picks channels, projects, turns, and maps to values.

    ``where`` is the file and plane, for errors.
    """

    image: PixelArray
    axes: ImageAxes
    plane: Plane
    picks: tuple[int, ...]
    shape: tuple[int, int]
    has_palette: bool
    where: str

    def __call__(self, rows: slice, columns: slice) -> np.ndarray:
        swapped, *backwards = self.image.turns
        stored = [
            slice(size - part.stop, size - part.start) if reverse else part
            for part, size, reverse in zip((rows, columns), self.shape, backwards, strict=True)
        ]
        try:
            pixels = self._stored(*(stored[::-1] if swapped else stored))
        except IndexError as error:
            raise DatasetError(
                f"{self.where}: has values beyond its palette of colours or its bits. Save it anew."
            ) from error
        pixels = pixels.swapaxes(0, 1) if swapped else pixels
        row_step, column_step = (-1 if reverse else 1 for reverse in backwards)
        pixels = pixels[::row_step, ::column_step]
        if pixels.flags.c_contiguous:
            return pixels
        # Channel by channel, several times faster than np.ascontiguousarray.
        return np.stack(np.moveaxis(pixels, 2, 0), axis=2)

    def _stored(self, rows: slice, columns: slice) -> np.ndarray:
        """Return the values of a window in the file's own orientation."""
        fixed = self.plane.fixed
        projected = [axis for axis, indices in fixed.items() if len(indices) > 1]
        if not projected:
            return self._values(rows, columns, {axis: i.start for axis, i in fixed.items()})
        (axis,) = projected
        others = {other: i.start for other, i in fixed.items() if other != axis}
        out = None
        for index in fixed[axis]:
            values = self._values(rows, columns, {**others, axis: index})
            out = values if out is None else np.maximum(out, values)
        return out

    def _values(self, rows: slice, columns: slice, place: dict[int, int]) -> np.ndarray:
        axes, image = self.axes, self.image
        if axes.channel is None or self.has_palette:
            values = image.to_values(self._raw(rows, columns, place, slice(0, 1)))
            if self.has_palette:
                values = image.palette[values[:, :, 0]]
            return values if values.shape[2] == len(self.picks) else values[:, :, list(self.picks)]
        first, count = self.picks[0], len(self.picks)
        if self.picks == tuple(range(first, first + count)):
            return image.to_values(self._raw(rows, columns, place, slice(first, first + count)))
        parts = [self._raw(rows, columns, place, slice(i, i + 1)) for i in self.picks]
        return image.to_values(np.concatenate(parts, axis=2))

    def _raw(self, rows: slice, columns: slice, place: dict[int, int], channels: slice):
        """Return (h, w, channels) as stored."""
        axes = self.axes
        slices = [slice(0, 1)] * len(axes.shape)
        for axis, index in place.items():
            slices[axis] = slice(index, index + 1)
        slices[axes.rows], slices[axes.columns] = rows, columns
        order = [axes.rows, axes.columns]
        if axes.channel is not None:
            slices[axes.channel] = channels
            order.append(axes.channel)
        rest = [axis for axis in range(len(slices)) if axis not in order]
        window = np.asarray(self.image.pixels[tuple(slices)]).transpose(*order, *rest)
        return window.reshape(window.shape[0], window.shape[1], channels.stop - channels.start)
