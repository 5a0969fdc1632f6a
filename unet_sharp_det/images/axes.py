"""Which axis of an image file is which: rows, columns, channels and planes."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from ..errors import UserError

CHANNEL_LETTERS = ("S", "C")  # tifffile's letters: samples of a pixel (RGB), and channels
UNNAMED_LETTERS = ("Q", "I")  # axes that tifffile found no name for: other, and sequence of pages
PAGE_NAME = "page"


@dataclass(frozen=True)
class ImageAxes:
    """The parts that axes of an array play; attributes are indices into ``shape``.

    Attributes:
        letters: one for each axis, as tifffile names them, e.g. ``"TZCYX"``.
        shape: of the array.
        rows, columns: the axes of a plane.
        channel: the axis of the channels, or None.
        planes: the other axes that are longer than 1.
    """

    letters: str
    shape: tuple[int, ...]
    rows: int
    columns: int
    channel: int | None
    planes: tuple[int, ...]

    def name(self, axis: int) -> str:
        """Return what names and files of results call an axis: ``"z"``, or ``"page"``."""
        letter = self.letters[axis]
        return PAGE_NAME if letter in UNNAMED_LETTERS else letter.lower()


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
    shown = [axis for axis, size in enumerate(shape) if size > 1 or letters[axis] in "YX"]
    channel = _find(options.channel_axis, "--channel-axis", letters, shape, shown, where)
    plane = _find(options.plane_axis, "--plane-axis", letters, shape, shown, where)
    if channel is not None and channel == plane:
        raise UserError(
            f"{where}: --channel-axis and --plane-axis are the same axis. "
            f"{describe_axes(letters, shape, shown)}"
        )
    if channel is None and plane is None and _is_pages_of_pixels(letters, shape, shown):
        channel = shown[-1]
    if channel is None:
        found = [letters.index(a) for a in CHANNEL_LETTERS if a in letters]
        channel = next((axis for axis in found if axis in shown and axis != plane), None)
    free = [axis for axis in shown if axis not in (channel, plane)]
    spatial = [axis for letter in "YX" for axis in free if letters[axis] == letter]
    if len(spatial) != 2:
        spatial = free[-2:]
    if len(spatial) != 2:
        raise UserError(
            f"{where}: no two axes are left for rows and columns. "
            f"{describe_axes(letters, shape, shown)} Check --channel-axis and --plane-axis."
        )
    parts = (*spatial, channel)
    planes = tuple(a for a, size in enumerate(shape) if a not in parts and size > 1)
    return ImageAxes(letters, tuple(shape), *spatial, channel, planes)


def _is_pages_of_pixels(letters: str, shape: tuple[int, ...], shown: list[int]) -> bool:
    if len(shown) < 3 or letters[shown[-3]] not in UNNAMED_LETTERS or letters[shown[-1]] != "X":
        return False
    height, width, channels = (shape[axis] for axis in shown[-3:])
    return channels <= 4 < min(height, width) or 4 * channels <= min(height, width)


def _find(option, flag: str, letters: str, shape, shown: list[int], where: str) -> int | None:
    """Return the axis of a letter, or of an index into the axes that are shown, or None."""
    if option is None:
        return None
    text = str(option).strip()
    if text.lstrip("-").isdigit():
        index = int(text)
        if -len(shown) <= index < len(shown):
            return shown[index]
        found = []
    else:
        found = [axis for axis, letter in enumerate(letters) if letter == text.upper()]
    if len(found) == 1:
        return found[0]
    problem = "is not one of its axes" if not found else "names several axes; give an index"
    raise UserError(f"{where}: {flag} {option} {problem}. {describe_axes(letters, shape, shown)}")


def describe_axes(letters: str, shape: tuple[int, ...], shown: list[int]) -> str:
    """Return a sentence with index, letter and size of each axis."""
    parts = [f"{index}: {letters[axis]} ({shape[axis]})" for index, axis in enumerate(shown)]
    return f"Axes by index, letter and size: {', '.join(parts)}."


def select_planes(axes: ImageAxes, options, where: str) -> list[Plane]:
    """Return the planes that the options ask for, in the file's order.

    ``options.planes`` is about one axis: ``options.plane_axis``, else Z, else the only one; all
    indices of further axes are taken. Indices count from 0.

    Raises:
        UserError: an index does not exist, or it is not clear which axis is meant.
    """
    wanted = options.planes
    if wanted == "all":
        return list(_product(axes, {axis: _each(axes, axis) for axis in axes.planes}))
    subject = _subject(axes, options, where)
    if subject is None:
        if wanted != "max" and set(wanted) != {0}:
            raise UserError(f"{where}: --planes {_shown(wanted)}: it has a single plane, number 0.")
        return list(_product(axes, {}))
    choices = {axis: _each(axes, axis) for axis in axes.planes}
    size = axes.shape[subject]
    if wanted == "max":
        choices[subject] = [("max", range(size))]
    else:
        outside = [index for index in wanted if not 0 <= index < size]
        if outside or not wanted:
            raise UserError(
                f"{where}: --planes {_shown(outside)}: axis {axes.letters[subject]} has the "
                f"planes 0 to {size - 1}."
            )
        choices[subject] = [(index, range(index, index + 1)) for index in wanted]
    return list(_product(axes, choices))


def _subject(axes: ImageAxes, options, where: str) -> int | None:
    shown = [axis for axis, size in enumerate(axes.shape) if size > 1 or axes.letters[axis] in "YX"]
    named = _find(options.plane_axis, "--plane-axis", axes.letters, axes.shape, shown, where)
    if named is not None:
        return named if named in axes.planes else None
    depth = [axis for axis in axes.planes if axes.letters[axis] == "Z"]
    if depth or len(axes.planes) <= 1:
        return next(iter(depth or axes.planes), None)
    raise UserError(
        f"{where}: --planes needs --plane-axis here, for several axes hold planes. "
        f"{describe_axes(axes.letters, axes.shape, shown)}"
    )


def _each(axes: ImageAxes, axis: int) -> list[tuple[int, range]]:
    return [(index, range(index, index + 1)) for index in range(axes.shape[axis])]


def _product(axes: ImageAxes, choices: dict[int, list]) -> Iterator[Plane]:
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
        yield Plane(f"[{name}]" if name else "", suffix, fixed, place)


def _shown(indices) -> str:
    return ",".join(map(str, indices)) or "(none)"
