"""Which axis of an image file is which, and windows of one plane of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import NamedTuple

import numpy as np

from ..errors import DatasetError, UserError

_UNNAMED_LETTERS = "QI"  # axes that tifffile found no name for: other, and sequence of pages


@dataclass(frozen=True)
class PixelArray:
    """An array of pixels with named axes, and what its values mean."""

    pixels: object  # pixels[slices] reads lazily, one slice per axis
    letters: str  # of the axes, as tifffile names them
    shape: tuple[int, ...]  # of the axes, those of length 1 included
    dtype: np.dtype  # of the values that to_values returns
    colours: int  # how many samples of a pixel are not alpha
    palette: np.ndarray | None = None  # uint8 (N, 3), RGB of each value
    orientation: int = 1  # the tag of that name, 1 to 8
    pixel_size: tuple[float, float] | None = None  # (y, x) in micrometres
    series_count: int = 1  # of images in the file, reduced copies not counted
    channel_names: tuple[str, ...] = ()
    #: Reduced copies of the pixels, the levels of a pyramid, each with its shape.
    levels: tuple[tuple[object, tuple[int, ...]], ...] = ()
    #: From what is stored to what is meant: 0 and 255 for bits, the inverse where 0 is white.
    to_values: Callable[[np.ndarray], np.ndarray] = lambda values: values

    @property
    def turns(self) -> tuple[bool, bool, bool]:
        """Whether rows and columns are swapped, and the (then) rows and columns run backwards."""
        kind = self.orientation
        return kind in (5, 6, 7, 8), kind in (3, 4, 7, 8), kind in (2, 3, 6, 7)


def check_series(path, number: int, count: int) -> None:
    """Raise :class:`UserError` unless a file of so many images has that one."""
    if not 0 <= number < count:
        raise UserError(f"{path}: there is no --series {number}. Choose one of 0 to {count - 1}.")


def meant_values(
    dtype: np.dtype, where: str
) -> tuple[np.dtype, Callable[[np.ndarray], np.ndarray]]:
    """Return the type that values of an array's type have for us, and what gives them that type.

    bool becomes 0 and 255 of uint8, any byte order the machine's.

    Raises:
        DatasetError: they are no real numbers.
    """
    if dtype.kind not in "buif":
        raise DatasetError(f"{where}: values of type {dtype} cannot be read; use real ones.")
    if dtype.kind == "b":
        return np.dtype(np.uint8), lambda values: values.astype(np.uint8) * np.uint8(255)
    native = dtype.newbyteorder("=")
    return native, lambda values: values.astype(native, copy=False)


def reduction_of(
    shape: tuple[int, ...], reduced: tuple[int, ...], spatial: tuple[int, int]
) -> int | None:
    """Return how many pixels along the two spatial axes are one of a reduced copy.

    None: they are no whole number above 1, or the copy is smaller along another axis too.
    """
    factor = round(shape[spatial[0]] / max(1, reduced[spatial[0]]))
    fits = (
        abs(size / factor - small) < 1 if axis in spatial else size == small
        for axis, (size, small) in enumerate(zip(shape, reduced, strict=True))
    )
    return factor if factor > 1 and all(fits) else None


class ImageAxes(NamedTuple):
    """The parts that axes of an array play, as indices into ``shape``."""

    letters: str
    shape: tuple[int, ...]
    rows: int
    columns: int
    channel: int | None
    planes: tuple[int, ...]  # the other axes that are longer than 1
    named: int | None  # the axis that the options call that of the planes

    def name(self, axis: int) -> str:
        """Return what names and files of results call an axis: ``"z"``, or ``"page"``."""
        letter = self.letters[axis]
        return "page" if letter in _UNNAMED_LETTERS else letter.lower()


class Plane(NamedTuple):
    """One plane of an image."""

    name: str  # like "[t=0,z=3]", "" for the only plane
    suffix: str  # like "_t000_z003", or ""
    fixed: dict[int, range]  # by plane axis, which indices it covers; several are a projection
    place: dict[str, int | None]  # by the name of each plane axis, None of a projection


def assign_axes(letters: str, shape: tuple[int, ...], options, where: str) -> ImageAxes:
    """Decide which axis is which.

    ``options`` (a :class:`~unet_sharp_det.images.source.ReadOptions`) come first. The channels are
    S (samples of a pixel) or else C. Rows and columns are Y and X, or the last two axes where the
    options take those. Every other axis longer than 1 is one of planes: Z, T, and a sequence of
    pages without a name (Q, I), *whatever its length*: three pages may be a stack. One exception:
    pages that are narrow beside their number and height are an array (H, W, C) that was saved as
    H pages of W x C: the last three axes are rows, columns, channels.

    Raises:
        UserError: an axis that the options name does not exist, or too few axes are left.
    """
    shown = _shown_axes(letters, shape)
    channel = _find(options.channel_axis, "--channel-axis", letters, shape, where)
    plane = _find(options.plane_axis, "--plane-axis", letters, shape, where)
    if channel is not None and channel == plane:
        raise UserError(
            f"{where}: --channel-axis and --plane-axis are the same axis. "
            f"{_describe_axes(letters, shape)}"
        )
    if channel is None and plane is None and _is_pages_of_pixels(letters, shape, shown):
        channel = shown[-1]
    if channel is None:
        found = [letters.index(letter) for letter in "SC" if letter in letters]
        channel = next((axis for axis in found if axis in shown and axis != plane), None)
    free = [axis for axis in shown if axis not in (channel, plane)]
    spatial = [axis for letter in "YX" for axis in free if letters[axis] == letter]
    if len(spatial) != 2:
        spatial = free[-2:]
    if len(spatial) != 2:
        raise UserError(
            f"{where}: no two axes are left for rows and columns. {_describe_axes(letters, shape)}"
        )
    parts = (*spatial, channel)
    planes = tuple(a for a, size in enumerate(shape) if a not in parts and size > 1)
    return ImageAxes(letters, tuple(shape), *spatial, channel, planes, plane)


def _shown_axes(letters: str, shape: tuple[int, ...]) -> list[int]:
    return [axis for axis, size in enumerate(shape) if size > 1 or letters[axis] in "YX"]


def _is_pages_of_pixels(letters: str, shape: tuple[int, ...], shown: list[int]) -> bool:
    if len(shown) < 3 or letters[shown[-3]] not in _UNNAMED_LETTERS or letters[shown[-1]] != "X":
        return False
    height, width, channels = (shape[axis] for axis in shown[-3:])
    return channels <= 4 < min(height, width) or 4 * channels <= min(height, width)


def _find(option, flag: str, letters: str, shape: tuple[int, ...], where: str) -> int | None:
    """Return the axis of a letter, or of an index into the axes that are shown."""
    if option is None:
        return None
    text, shown = str(option).strip(), _shown_axes(letters, shape)
    if text.lstrip("-").isdigit():
        index = int(text)
        found = [shown[index]] if -len(shown) <= index < len(shown) else []
    else:
        found = [axis for axis, letter in enumerate(letters) if letter == text.upper()]
    if len(found) == 1:
        return found[0]
    problem = "is not one of its axes" if not found else "names several axes; give an index"
    raise UserError(f"{where}: {flag} {option} {problem}. {_describe_axes(letters, shape)}")


def _describe_axes(letters: str, shape: tuple[int, ...]) -> str:
    shown = enumerate(_shown_axes(letters, shape))
    parts = [f"{index}: {letters[axis]} ({shape[axis]})" for index, axis in shown]
    return f"Axes by index, letter and size: {', '.join(parts)}."


def select_planes(axes: ImageAxes, planes: str | tuple[int, ...], where: str) -> list[Plane]:
    """Return the planes that ``ReadOptions.planes`` asks for, in the file's order.

    They are about one axis: that of the options, else Z, else the only one; all indices of
    further axes are taken. Indices count from 0.

    Raises:
        UserError: an index does not exist, or it is not clear which axis is meant.
    """
    choices: dict[int, Sequence] = {axis: range(axes.shape[axis]) for axis in axes.planes}
    if planes != "all":
        axis = _axis_of_planes(axes, where)
        size = 1 if axis is None else axes.shape[axis]
        outside = [index for index in planes if planes != "max" and not 0 <= index < size]
        if outside or not planes:
            shown = ",".join(map(str, outside)) or "(none)"
            raise UserError(f"{where}: --planes {shown}: there are the planes 0 to {size - 1}.")
        if axis is not None:
            choices[axis] = ["max"] if planes == "max" else planes
    return _product(axes, choices)


def _axis_of_planes(axes: ImageAxes, where: str) -> int | None:
    if axes.named is not None:
        return axes.named if axes.named in axes.planes else None
    depth = [axis for axis in axes.planes if axes.letters[axis] == "Z"]
    if depth or len(axes.planes) <= 1:
        return next(iter(depth or axes.planes), None)
    raise UserError(
        f"{where}: several axes hold planes, so --planes needs --plane-axis. "
        f"{_describe_axes(axes.letters, axes.shape)}"
    )


def _product(axes: ImageAxes, choices: dict[int, Sequence]) -> list[Plane]:
    planes = []
    for labels in product(*choices.values()):
        parts = list(zip(map(axes.name, choices), labels, strict=True))
        name = ",".join(f"{key}={label}" for key, label in parts)
        suffix = "".join(
            f"_{key}{label}" if label == "max" else f"_{key}{label:03d}" for key, label in parts
        )
        fixed = {
            axis: range(axes.shape[axis]) if label == "max" else range(label, label + 1)
            for axis, label in zip(choices, labels, strict=True)
        }
        place = {key: None if label == "max" else label for key, label in parts}
        planes.append(Plane(f"[{name}]" if name else "", suffix, fixed, place))
    return planes


class PlaneReader(NamedTuple):
    """Reads windows of a plane: picks channels, projects, turns, and maps to values."""

    image: PixelArray
    axes: ImageAxes
    plane: Plane
    picks: tuple[int, ...]
    shape: tuple[int, int]
    where: str  # the file and plane, for errors

    def __call__(self, rows: slice, columns: slice) -> np.ndarray:
        swapped, *backwards = self.image.turns
        window = [
            slice(size - part.stop, size - part.start) if reverse else part
            for part, size, reverse in zip((rows, columns), self.shape, backwards, strict=True)
        ]
        places = product(*self.plane.fixed.values())  # several are a projection
        try:
            parts = (
                self._values(*(window[::-1] if swapped else window), place) for place in places
            )
            pixels = reduce(np.maximum, parts)
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

    def _values(self, rows: slice, columns: slice, place: tuple[int, ...]) -> np.ndarray:
        """Return the values of a window in the file's own orientation."""
        image, picks = self.image, self.picks
        if image.palette is not None:
            values = image.to_values(self._stored(rows, columns, place, slice(0, 1)))
            return image.palette[values[:, :, 0]][:, :, list(picks)]
        if picks == tuple(range(picks[0], picks[-1] + 1)):
            chosen = [slice(picks[0], picks[-1] + 1)]
        else:
            chosen = [slice(index, index + 1) for index in picks]
        parts = [self._stored(rows, columns, place, channels) for channels in chosen]
        return image.to_values(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2))

    def _stored(self, rows: slice, columns: slice, place: tuple[int, ...], channels: slice):
        """Return (h, w, channels) as stored."""
        axes = self.axes
        slices = [slice(0, 1)] * len(axes.shape)
        for axis, index in zip(self.plane.fixed, place, strict=True):
            slices[axis] = slice(index, index + 1)
        slices[axes.rows], slices[axes.columns] = rows, columns
        order = [axes.rows, axes.columns]
        if axes.channel is not None:
            slices[axes.channel] = channels
            order.append(axes.channel)
        rest = [axis for axis in range(len(slices)) if axis not in order]
        window = np.asarray(self.image.pixels[tuple(slices)]).transpose(*order, *rest)
        return window.reshape(window.shape[0], window.shape[1], channels.stop - channels.start)
