"""Which axis of an image file is which, and windows of one plane of it."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..errors import DatasetError, UserError

_UNNAMED_LETTERS = "QI"  # axes that tifffile found no name for: other, and sequence of pages
#: By the tag Orientation: whether rows and columns are swapped, and then run backwards.
_TURNS = {
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
    palette: np.ndarray | None = None
    orientation: int = 1
    pixel_size: tuple[float, float] | None = None
    series_count: int = 1
    channel_names: tuple[str, ...] = ()
    to_values: Callable[[np.ndarray], np.ndarray] = lambda values: values

    @property
    def turns(self) -> tuple[bool, bool, bool]:
        """Whether rows and columns are swapped, and the (then) rows and columns run backwards."""
        return _TURNS.get(self.orientation, (False, False, False))


@dataclass(frozen=True)
class ImageAxes:
    """The parts that axes of an array play; attributes are indices into ``shape``.

    Attributes:
        letters, shape: of the array, as in :class:`PixelArray`.
        rows, columns: the axes of a plane.
        channel: the axis of the channels, or None.
        planes: the other axes that are longer than 1.
        named: the axis that the options call that of the planes, or None.
    """

    letters: str
    shape: tuple[int, ...]
    rows: int
    columns: int
    channel: int | None
    planes: tuple[int, ...]
    named: int | None

    def name(self, axis: int) -> str:
        """Return what names and files of results call an axis: ``"z"``, or ``"page"``."""
        letter = self.letters[axis]
        return "page" if letter in _UNNAMED_LETTERS else letter.lower()


@dataclass(frozen=True)
class Plane:
    """One plane of an image.

    Attributes:
        name: ``""`` for the only plane of an image, else like ``"[t=0,z=3]"``.
        suffix: ``""``, or like ``"_t000_z003"``.
        fixed: the range of each plane axis that it covers; more than one index is a projection.
        place: by the name of each plane axis the index, None of a projection.
    """

    name: str
    suffix: str
    fixed: dict[int, range]
    place: dict[str, int | None]


def assign_axes(letters: str, shape: tuple[int, ...], options, where: str) -> ImageAxes:
    """Decide which axis is which.

    Rows and columns are Y and X. The channels are S (samples of a pixel) or else C. Every other
    axis longer than 1 is one of planes: Z, T, and also a sequence of pages without a name (Q, I),
    *whatever its length*, because three pages may be a stack as well as red, green and blue.
    One exception: pages that are narrow beside their number and height are no images but an array
    (H, W, C) that was saved as H pages of W x C: the last three axes are rows, columns, channels.
    ``options.channel_axis`` and ``options.plane_axis`` come first; where they take Y or X, the last
    two axes that are left are rows and columns.

    Args:
        letters, shape: of the array, from tifffile.
        options: a :class:`~unet_sharp_det.images.source.ReadOptions`.
        where: the file, for errors.

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
            f"{where}: no two axes are left for rows and columns; check --channel-axis and "
            f"--plane-axis. {_describe_axes(letters, shape)}"
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
    """Return the axis of a letter, or of an index into the axes that are shown, or None."""
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
    choices = {
        axis: [(index, range(index, index + 1)) for index in range(axes.shape[axis])]
        for axis in axes.planes
    }
    if planes == "all":
        return _product(axes, choices)
    axis = _axis_of_planes(axes, where)
    if planes == "max":
        if axis is not None:
            choices[axis] = [("max", range(axes.shape[axis]))]
        return _product(axes, choices)
    size = 1 if axis is None else axes.shape[axis]
    outside = [index for index in planes if not 0 <= index < size]
    if outside or not planes:
        shown = ",".join(map(str, outside)) or "(none)"
        has = "it has a single plane, number 0"
        if axis is not None:
            has = f"axis {axes.letters[axis]} has the planes 0 to {size - 1}"
        raise UserError(f"{where}: --planes {shown}: {has}.")
    if axis is not None:
        choices[axis] = [choices[axis][index] for index in planes]
    return _product(axes, choices)


def _axis_of_planes(axes: ImageAxes, where: str) -> int | None:
    if axes.named is not None:
        return axes.named if axes.named in axes.planes else None
    depth = [axis for axis in axes.planes if axes.letters[axis] == "Z"]
    if depth or len(axes.planes) <= 1:
        return next(iter(depth or axes.planes), None)
    raise UserError(
        f"{where}: --planes needs --plane-axis here, for several axes hold planes. "
        f"{_describe_axes(axes.letters, axes.shape)}"
    )


def _product(axes: ImageAxes, choices: dict[int, list]) -> list[Plane]:
    planes = []
    for combination in product(*choices.values()):
        parts = [
            (axes.name(axis), label) for axis, (label, _) in zip(choices, combination, strict=True)
        ]
        name = ",".join(f"{key}={label}" for key, label in parts)
        suffix = "".join(
            f"_{key}{label}" if label == "max" else f"_{key}{label:03d}" for key, label in parts
        )
        fixed = {axis: indices for axis, (_, indices) in zip(choices, combination, strict=True)}
        place = {key: None if label == "max" else label for key, label in parts}
        planes.append(Plane(f"[{name}]" if name else "", suffix, fixed, place))
    return planes


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
        values = None
        for place in product(*fixed.values()):  # several indices are a projection
            more = self._values(rows, columns, dict(zip(fixed, place, strict=True)))
            values = more if values is None else np.maximum(values, more)
        return values

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
