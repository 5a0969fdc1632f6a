"""Images of any kind and size as planes that are read window by window."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import DatasetError, UserError
from .formats import CONVERT, MAX_PIXELS, decode, format_not_read
from .planes import ImageAxes, PixelArray, PlaneReader, assign_axes, select_planes
from .tiff import is_tiff, open_tiff

#: What predictions look at where a file has two, or more than three channels.
DEFAULT_CHANNELS = (0,)


class ChannelsError(UserError):
    """A file has two, or more than three channels, and the options do not choose."""


@dataclass(frozen=True)
class ReadOptions:
    """How files are read that hold more than one gray or RGB image.

    Attributes:
        channels: which channels, from 0: one, or three that become red, green and blue. An index
            may repeat. None: all, of which there must be one or three besides alpha.
        channel_axis, plane_axis: a letter of the file's axes, or an index into those longer than 1
            (and Y and X), i.e. into the shape that ``tifffile.imread`` gives. None: by the rules of
            :func:`~unet_sharp_det.images.planes.assign_axes`.
        planes: ``"all"``, ``"max"`` (the maximum over the axis), or indices from 0, all along
            ``plane_axis``; see :func:`~unet_sharp_det.images.planes.select_planes`.
        series: which series of a TIFF file, from 0.
        max_pixels: of an image that must be decoded as a whole (at most 2**30 then, OpenCV's own
            limit), or of a strip or tile.
    """

    channels: tuple[int, ...] | None = None
    channel_axis: int | str | None = None
    plane_axis: int | str | None = None
    planes: str | tuple[int, ...] = "all"
    series: int = 0
    max_pixels: int = MAX_PIXELS

    def __post_init__(self):
        if self.channels is not None and len(self.channels) not in (1, 3):
            raise UserError(
                f"--channels {','.join(map(str, self.channels))}: choose one channel, or three "
                "that become red, green and blue."
            )
        if isinstance(self.planes, str) and self.planes not in ("all", "max"):
            raise UserError(f"--planes {self.planes}: write all, max, or numbers from 0.")
        if self.max_pixels < 1:
            raise UserError(f"--max-pixels {self.max_pixels}: must be at least 1.")


@dataclass(frozen=True)
class ImageSource:
    """One plane of an image, with its channels, read lazily.

    Attributes:
        name: what errors and progress call it, e.g. ``"a.tif"`` or ``"a.tif[z=3]"``.
        suffix: what results of this plane append to the file's stem: ``""`` or like ``"_z003"``.
        shape: (height, width).
        channels: 1, or 3 in RGB order.
        channel_numbers: which channels of the file these are, from 0.
        total_channels: of the file, alpha not counted, whichever are chosen: what
            ``ReadOptions(channels=(0,))``, which fits every file, leaves to choose from.
        dtype: of the values.
        pixel_size: (y, x) in micrometres, or None.
        place: the index, from 0, along each axis of planes: ``"z"``, ``"t"``, ``"page"``, ...;
            None where the plane is the maximum over it.
        series_count: how many images of their own a TIFF holds, of which ``ReadOptions.series``
            takes one: levels of a pyramid and other reduced copies are none. 1 for other formats
            and arrays.
        where: the file and plane, for errors.
        read: (rows, columns), slices inside of the image, to an array (h, w, channels).
    """

    name: str
    suffix: str
    shape: tuple[int, int]
    channels: int
    channel_numbers: tuple[int, ...]
    total_channels: int
    dtype: np.dtype
    pixel_size: tuple[float, float] | None
    place: dict[str, int | None]
    series_count: int
    where: str
    read: Callable[[slice, slice], np.ndarray] = field(repr=False)

    def window(self, rows: slice, columns: slice) -> np.ndarray:
        """Return the file's own values of a window, (h, w, channels), RGB order.

        Args:
            rows, columns: slices with a step of 1, clipped to the image as NumPy does.

        Raises:
            DatasetError: the part of the file is corrupt, or holds NaN or infinite pixels.
        """
        ranges = [
            part.indices(size) for part, size in zip((rows, columns), self.shape, strict=True)
        ]
        if any(step != 1 for _, _, step in ranges):
            raise ValueError(f"A window needs steps of 1, not {rows} and {columns}.")
        height, width = (max(0, stop - start) for start, stop, _ in ranges)
        if not height * width:
            return np.empty((height, width, self.channels), self.dtype)
        pixels = self.read(*(slice(start, stop) for start, stop, _ in ranges))
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise DatasetError(
                f"{self.where}: holds NaN or infinite pixels. Replace them, then retry."
            )
        return pixels


def open_image(path, options: ReadOptions | None = None) -> list[ImageSource]:
    """Open an image file; TIFF is read window by window, other formats as a whole.

    Orientation is applied and alpha dropped; an animation is refused.

    Args:
        path: a local file.
        options: of TIFF files with several axes; the default takes every plane.

    Returns:
        a source for every plane.

    Raises:
        DatasetError: the file is missing, no image, truncated, corrupt, or larger than
            ``options.max_pixels`` where it must be decoded as a whole.
        ChannelsError: the file has two, or more than three channels, and none are chosen.
        UserError: the options do not fit the file; the message says what axes there are.
    """
    options = options or ReadOptions()
    return planes_of(open_pixels(path, options), Path(path).name, str(path), options)


def open_pixels(path, options: ReadOptions) -> PixelArray:
    """Open an image file as an array of any axes: what :func:`open_image` takes planes of."""
    path = Path(path)
    try:
        kind = format_not_read(path)
        if is_tiff(path) and kind != "Olympus VSI":  # of which the TIFF is a preview
            return open_tiff(path, options.series, options.max_pixels)
        if kind:
            raise DatasetError(f"{path}: is a {kind} file, which is not read. {CONVERT}")
        return _pixel_array(*decode(path, options.max_pixels))
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: does not exist.") from error
    except IsADirectoryError as error:
        raise DatasetError(f"{path}: is a folder, not an image file.") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}.") from error


def from_array(array: np.ndarray, name: str = "image") -> ImageSource:
    """Return an array as a source.

    Args:
        array: (H, W), or (H, W, C) with one channel, RGB, or RGBA, whose alpha is dropped; bool or
            real numbers. Bools become 0 and 255.
        name: what errors call it.

    Raises:
        DatasetError: the array is empty, of another type, or has other axes or channels.
    """
    array = np.asarray(array)
    if array.ndim not in (2, 3) or not array.size:
        raise DatasetError(f"{name}: is an array of shape {array.shape}, not (H, W) or (H, W, C).")
    if array.dtype.kind not in "buif":
        raise DatasetError(f"{name}: values of type {array.dtype} cannot be read; use real ones.")
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4):
        raise DatasetError(
            f"{name}: has {array.shape[2]} channels in its last axis, of shape {array.shape}. "
            "Choose one or three: array[:, :, [0]]."
        )
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return planes_of(_pixel_array(array), name, name, ReadOptions())[0]


def _pixel_array(pixels: np.ndarray, orientation: int = 1, step: int = 1) -> PixelArray:
    """Return what is in memory already, (H, W) or (H, W, channels): see ``formats.Decoded``."""
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    return PixelArray(
        pixels=pixels,
        letters="YXS"[: pixels.ndim],
        shape=pixels.shape,
        dtype=pixels.dtype,
        colours=1 if samples <= 2 else 3,
        orientation=orientation,
        to_values=lambda values: values if step == 1 else values * np.uint8(step),
    )


def planes_of(
    image: PixelArray, name: str, where: str, options: ReadOptions, all_channels: bool = False
) -> list[ImageSource]:
    """Return a source for every plane that the options ask for; see :func:`open_image`.

    Args:
        all_channels: take all that there are, however many, whatever the options choose.
    """
    axes = assign_axes(image.letters, image.shape, options, where)
    total = _count_channels(image, axes)
    if all_channels:
        picks = tuple(range(total))
    else:
        picks = _choose_channels(image, axes, total, options, where)
    swapped, _, _ = image.turns
    shape = (image.shape[axes.rows], image.shape[axes.columns])
    pixel_size = image.pixel_size
    if swapped:
        shape, pixel_size = shape[::-1], pixel_size and pixel_size[::-1]
    has_palette = _has_palette(image, axes)
    return [
        ImageSource(
            name=name + plane.name,
            suffix=plane.suffix,
            shape=shape,
            channels=len(picks),
            channel_numbers=picks,
            total_channels=total,
            dtype=image.palette.dtype if has_palette else image.dtype,
            pixel_size=pixel_size,
            place=plane.place,
            series_count=image.series_count,
            where=where + plane.name,
            read=PlaneReader(image, axes, plane, picks, shape, has_palette, where + plane.name),
        )
        for plane in select_planes(axes, options.planes, where)
    ]


def _count_channels(image: PixelArray, axes: ImageAxes) -> int:
    """Return how many channels there are, without alpha."""
    if _has_palette(image, axes):
        return 3
    if axes.channel is None:
        return 1
    is_samples = image.letters[axes.channel] == "S"
    return image.colours if is_samples else image.shape[axes.channel]


def _has_palette(image: PixelArray, axes: ImageAxes) -> bool:
    """Return whether values are numbers of colours: not where they are several channels."""
    is_alone = axes.channel is None or image.letters[axes.channel] == "S"
    return image.palette is not None and image.colours == 1 and is_alone


def _choose_channels(
    image: PixelArray, axes: ImageAxes, total: int, options: ReadOptions, where: str
) -> tuple[int, ...]:
    """Return which indices of the channel axis are read."""
    is_whole = axes.channel is None or _has_palette(image, axes)
    stored = total if is_whole else image.shape[axes.channel]
    if options.channels is not None:
        _check_channels(options.channels, stored, where)
        return options.channels
    if total not in (1, 3):
        names = image.channel_names if len(image.channel_names) == total else ("",) * total
        shown = ", ".join(f"{number} {name}".strip() for number, name in enumerate(names[:20]))
        raise ChannelsError(
            f"{where}: has {total} channels, and a model sees one or three. Choose of {shown} with "
            "--channels: one, or three as red, green and blue, such as --channels 0,1,1. If they "
            f"are planes of a stack, say --plane-axis {image.letters[axes.channel]}."
        )
    return tuple(range(total))


def _check_channels(wanted: tuple[int, ...], total: int, where: str) -> None:
    if any(not 0 <= index < total for index in wanted):
        raise UserError(
            f"{where}: --channels {','.join(map(str, wanted))}: it has {total} "
            f"channel{'s' if total > 1 else ''}, from 0 to {total - 1}."
        )
