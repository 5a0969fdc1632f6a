"""Images of any kind and size as planes that are read window by window."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import DatasetError, UserError
from .formats import HOW_TO_CONVERT, MAX_PIXELS, decode, format_not_read, read_size
from .ome_zarr import is_zarr, open_zarr
from .planes import (
    ImageAxes,
    PixelArray,
    PlaneReader,
    assign_axes,
    meant_values,
    reduction_of,
    select_planes,
)
from .tiff import is_tiff, open_tiff
from .vendors import SUFFIXES as VENDOR_SUFFIXES
from .vendors import is_vendor_file, open_vendor_file

#: What an image file in a folder is known by; a file that is named itself may be called anything.
SUFFIXES = (
    *(".tif", ".tiff", ".btf", ".tf8", ".lsm", ".svs", ".ndpi", *VENDOR_SUFFIXES),
    *(".png", ".jpg", ".jpeg", ".bmp", ".webp", ".jp2", ".gif", ".pgm", ".ppm"),
)

#: What predictions look at where a file has two, or more than three channels.
DEFAULT_CHANNELS = (0,)


# A scanner's 0.2528 micrometres are a quarter: its level of half the size does for 0.5.
_ENLARGED_MOST = 1.02


class ChannelsError(UserError):
    """A file has two, or more than three channels, and the options do not choose."""


@dataclass(frozen=True)
class ReadOptions:
    """How files are read that hold more than one gray or RGB image.

    Attributes:
        channels: which channels, by their numbers from 0 or their names: one, or three that become
            red, green and blue. None: all, of which there must be one or three besides alpha.
        channel_axis, plane_axis: a letter of the file's axes, or an index into those longer than 1
            (and Y and X), i.e. into the shape that ``tifffile.imread`` gives. None: by the rules of
            :func:`~unet_sharp_det.images.planes.assign_axes`.
        planes: ``"all"``, ``"max"`` (the maximum over the axis), or indices from 0; see
            :func:`~unet_sharp_det.images.planes.select_planes`.
        series: which series of a TIFF file, OME-Zarr or LIF, scene of a CZI, or position of an
            ND2, from 0.
        max_pixels: of an image that must be decoded as a whole, or of a strip, tile or chunk.
    """

    channels: tuple[int | str, ...] | None = None
    channel_axis: int | str | None = None
    plane_axis: int | str | None = None
    planes: str | tuple[int, ...] = "all"
    series: int = 0
    max_pixels: int = MAX_PIXELS

    def __post_init__(self):
        if self.channels is not None and len(self.channels) not in (1, 3):
            shown = ",".join(map(str, self.channels))
            raise UserError(f"--channels {shown}: choose one channel, or three for RGB.")
        if isinstance(self.planes, str) and self.planes not in ("all", "max"):
            raise UserError(f"--planes {self.planes}: write all, max, or numbers from 0.")
        if self.max_pixels < 1:
            raise UserError(f"--max-pixels {self.max_pixels}: must be at least 1.")


@dataclass(frozen=True)
class ImageSource:
    """One plane of an image, with its channels, read lazily."""

    name: str  # what errors and progress call it, like "a.tif" or "a.tif[z=3]"
    suffix: str  # what results of this plane append to the file's stem: "" or like "_z003"
    shape: tuple[int, int]  # (height, width)
    channels: int  # 1, or 3 in RGB order
    channel_numbers: tuple[int, ...]  # which channels of the file these are, from 0
    total_channels: int  # of the file, alpha not counted, whichever are chosen
    dtype: np.dtype
    pixel_size: tuple[float, float] | None  # (y, x) in micrometres
    place: dict[str, int | None]  # index by axis ("z", "t", "page", ...), None of a maximum
    series_count: int  # of images in a TIFF or OME-Zarr, levels of a pyramid not counted; else 1
    where: str  # the file and plane, for errors
    #: (rows, columns), slices inside of the image, to an array (h, w, channels).
    read: PlaneReader = field(repr=False)
    channel_names: tuple[str, ...] = ()  # of all channels of the file; empty: it has none
    #: Reduced copies, by how many pixels along each side are one of theirs; see :meth:`reduced`.
    levels: dict[int, "ImageSource"] = field(default_factory=dict, repr=False)

    def with_all_channels(self) -> "ImageSource":
        """Return the plane with all channels of the file, alpha not counted."""
        numbers = tuple(range(self.total_channels))
        return replace(
            self,
            channels=len(numbers),
            channel_numbers=numbers,
            read=self.read._replace(picks=numbers),
            levels={factor: level.with_all_channels() for factor, level in self.levels.items()},
        )

    def reduction_for(self, scale: float) -> int:
        """Return the factor of the coarsest level that has all that is seen at this scale.

        Args:
            scale: by which the image is resized to be seen. From 1 on it is 1, the image itself.
        """
        fitting = (factor for factor in self.levels if factor * scale <= _ENLARGED_MOST)
        return max(fitting, default=1)

    def reduced(self, factor: int) -> "ImageSource":
        """Return the image, or the level of one of the factors in :attr:`levels`.

        What is left at the right and lower edge and is no whole pixel of the level is not in it.
        """
        return self if factor == 1 else self.levels[factor]

    def window(self, rows: slice, columns: slice) -> np.ndarray:
        """Return the file's own values of a window, (h, w, channels), RGB order.

        The slices have a step of 1 and are clipped to the image as NumPy does.

        Raises:
            DatasetError: the part of the file is corrupt, or holds NaN or infinite pixels.
        """
        ranges = [
            part.indices(size)[:2] for part, size in zip((rows, columns), self.shape, strict=True)
        ]
        height, width = (max(0, stop - start) for start, stop in ranges)
        if not height * width:
            return np.empty((height, width, self.channels), self.dtype)
        pixels = self.read(*(slice(*each) for each in ranges))
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise DatasetError(f"{self.where}: holds NaN or infinite pixels. Replace them.")
        return pixels


def open_image(path, options: ReadOptions | None = None) -> list[ImageSource]:
    """Open an image: by windows, but for formats such as PNG, which are decoded as a whole.

    Orientation is applied and alpha dropped. What is decoded as a whole and has three equal
    colours is gray: it has one channel. There is a source for every plane, of a plate for every
    plane of every field.

    Args:
        path: a file, or of OME-Zarr a folder or an address such as ``s3://bucket/a.zarr``.

    Raises:
        UserError: a package that the format takes is missing, or the options do not fit the file,
            and the message says what axes there are.
        DatasetError: the file is missing, no image, an animation, truncated, corrupt, or larger
            than ``options.max_pixels`` where it must be decoded as a whole.
        ChannelsError: the file has two, or more than three channels, and none are chosen.
    """
    options = options or ReadOptions()
    name, where = Path(path).name, str(path)
    if not is_zarr(path):
        return planes_of(open_pixels(path, options), name, where, options)
    sources = []
    for part, image in open_zarr(path, options.series, options.max_pixels).items():
        place = f"/{part}" if part else ""
        planes = planes_of(image, name + place, where + place, options)
        suffix = place.replace("/", "_")
        sources += [replace(plane, suffix=suffix + plane.suffix) for plane in planes]
    return sources


def open_pixels(path, options: ReadOptions) -> PixelArray:
    """Open an image file as an array of any axes: what :func:`open_image` takes planes of."""
    path = Path(path)
    try:
        if is_vendor_file(path):
            return open_vendor_file(path, options.series)
        kind = format_not_read(path)
        if is_tiff(path) and kind != "Olympus VSI":  # of which the TIFF is a preview
            return open_tiff(path, options.series, options.max_pixels)
        if kind:
            raise DatasetError(f"{path}: is a {kind} file, which is not read. {HOW_TO_CONVERT}")
        return _pixel_array(*decode(path, options.max_pixels))
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: does not exist.") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}.") from error


def size_in_header(path) -> tuple[int, int] | None:
    """Return the (height, width) of an image file that holds one plane, read from its header.

    None: it may hold several, or cannot be read; :func:`open_image` tells.
    """
    try:
        if is_zarr(path) or is_vendor_file(path) or format_not_read(path) or is_tiff(path):
            return None
        return read_size(Path(path))
    except (OSError, DatasetError):
        return None


def from_array(array: np.ndarray, name: str = "image", all_channels: bool = False) -> ImageSource:
    """Return an array as a source.

    Args:
        array: (H, W), or (H, W, C) with one channel, RGB, or RGBA, whose alpha is dropped; bool,
            which becomes 0 and 255, or real numbers. Others are a :class:`DatasetError`.
        all_channels: take any number of channels, none of which is alpha.
    """
    array = np.asarray(array)
    if array.ndim not in (2, 3) or not array.size:
        raise DatasetError(f"{name}: is an array of shape {array.shape}, not (H, W) or (H, W, C).")
    _, to_values = meant_values(array.dtype, name)
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and not all_channels:
        raise DatasetError(f"{name}: has {array.shape[2]} channels. Give one or three.")
    pixels = _pixel_array(to_values(array))
    if not all_channels:
        return planes_of(pixels, name, name, ReadOptions())[0]
    if array.ndim == 3:
        pixels = replace(pixels, colours=array.shape[2])
    return planes_of(pixels, name, name, ReadOptions(channels=(0,)))[0].with_all_channels()


def _pixel_array(pixels: np.ndarray, orientation: int = 1, white: int | None = None) -> PixelArray:
    """Return what is in memory already: see :class:`~.formats.Decoded`."""
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    is_stretched = white is not None and pixels.dtype == np.uint8
    return PixelArray(
        pixels=pixels,
        letters="YXS"[: pixels.ndim],
        shape=pixels.shape,
        dtype=pixels.dtype,
        colours=1 if samples <= 2 or _has_equal_colours(pixels) else 3,
        orientation=orientation,
        to_values=lambda values: (
            np.rint(values * (255 / white)).astype(np.uint8) if is_stretched else values
        ),
    )


def _has_equal_colours(pixels: np.ndarray) -> bool:
    return all(np.array_equal(pixels[..., 0], pixels[..., n]) for n in (1, 2))


def planes_of(image: PixelArray, name: str, where: str, options: ReadOptions) -> list[ImageSource]:
    """Return a source for every plane that the options ask for; see :func:`open_image`."""
    axes = assign_axes(image.letters, image.shape, options, where)
    is_samples = axes.channel is not None and image.letters[axes.channel] == "S"
    if image.colours != 1 or not (axes.channel is None or is_samples):
        image = replace(image, palette=None)  # of several channels values are no numbers of colours
    if image.palette is not None:
        stored = total = 3
    else:
        stored = 1 if axes.channel is None else image.shape[axes.channel]
        total = image.colours if is_samples else stored
    names = image.channel_names if len(set(image.channel_names)) == total else ()
    picks = _choose_channels(image, axes, total, stored, options, where)
    shape, pixel_size = (image.shape[axes.rows], image.shape[axes.columns]), image.pixel_size
    if image.turns[0]:
        shape, pixel_size = shape[::-1], pixel_size and pixel_size[::-1]
    sources = [
        ImageSource(
            name=name + plane.name,
            suffix=plane.suffix,
            shape=shape,
            channels=len(picks),
            channel_numbers=picks,
            total_channels=total,
            dtype=image.dtype if image.palette is None else image.palette.dtype,
            pixel_size=pixel_size,
            place=plane.place,
            series_count=image.series_count,
            where=where + plane.name,
            read=PlaneReader(image, axes, plane, picks, shape, where + plane.name),
            channel_names=names,
        )
        for plane in select_planes(axes, options.planes, where)
    ]
    for pixels, stored_shape in image.levels if image.orientation == 1 else ():
        factor = reduction_of(image.shape, stored_shape, (axes.rows, axes.columns))
        for source in sources if factor else ():
            reduced = replace(image, pixels=pixels)
            source.levels[factor] = replace(
                source,
                shape=tuple(size // factor for size in shape),
                read=source.read._replace(image=reduced),
                levels={},
            )
    return sources


def _choose_channels(
    image: PixelArray, axes: ImageAxes, total: int, stored: int, options: ReadOptions, where: str
) -> tuple[int, ...]:
    """Return which indices of the channel axis are read; ``stored`` counts alpha, unlike total."""
    names = image.channel_names if len(image.channel_names) == total else ("",) * total
    if options.channels is not None:
        names += ("",) * (stored - total)
    shown = ", ".join(f"{number} {name}".strip() for number, name in enumerate(names[:20]))
    if options.channels is not None:
        lower = [name.lower() for name in names]
        picks = tuple(
            lower.index(each.lower()) if str(each).lower() in lower else each
            for each in options.channels
        )
        if any(isinstance(each, str) or not 0 <= each < stored for each in picks):
            raise UserError(
                f"{where}: --channels {','.join(map(str, options.channels))}: it has {stored} "
                f"channel{'s' if stored > 1 else ''}: {shown}."
            )
        return picks
    if total not in (1, 3):
        raise ChannelsError(
            f"{where}: has {total} channels, and a model sees one or three. Choose of {shown} with "
            "--channels, such as 0 or 0,1,1; if they are planes of a stack, say --plane-axis "
            f"{image.letters[axes.channel]}."
        )
    return tuple(range(total))
