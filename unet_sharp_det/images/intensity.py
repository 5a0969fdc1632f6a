"""What a model sees of an image: uint8, its channels, and the scale of the whole image."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from ..errors import ConfigError, look_up_option
from .percentiles import percentiles_of_counts, percentiles_of_windows, row_bands, small_histogram
from .source import ImageSource

IMAGE_FORMATS = ("BGR", "RGB", "L")

# StarDist's usual normalisation: robust to hot pixels and to a few very bright nuclei.
PERCENTILES = (1.0, 99.8)


def check_image_format(format: str) -> str:
    """Return ``format`` if it is one of :data:`IMAGE_FORMATS`, else raise :class:`ConfigError`."""
    return look_up_option(format, IMAGE_FORMATS, "INPUT.FORMAT", ConfigError)


def rescale_to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Map the percentiles 1 and 99.8 of ``pixels`` linearly to 0 and 255, and clip beyond them.

    All channels share one scale, so that colours keep their ratios. Where the percentiles
    coincide (a few bright spots on a flat ground) the minimum and maximum take their place, and
    a constant image becomes 0. Give it whole images, never tiles: tiles of one image would each
    get another scale.

    Args:
        pixels: an array of any shape and real numeric type, with finite values.

    Returns:
        a uint8 array of the same shape.
    """
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return Scale.of_windows(lambda: [pixels], pixels.size, pixels.dtype).apply(pixels)


@dataclass(frozen=True)
class Scale:
    """The linear map to 0 to 255 of :func:`rescale_to_uint8`.

    Attributes:
        low, high: the values that become 0 and 255; those beyond are clipped. Where they are
            equal, everything becomes 0.
    """

    low: float
    high: float

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return uint8 of the shape of the values."""
        if not _is_small_integer(values.dtype):
            return self._map(values)
        return _table(self, values.dtype)[values.view(f"u{values.dtype.itemsize}")]

    def _map(self, values: np.ndarray) -> np.ndarray:
        if self.high <= self.low:
            return np.zeros(values.shape, np.uint8)
        low, high = self.low / 2, self.high / 2  # of float64, the whole difference may overflow
        shares = (np.clip(values.astype(np.float64) / 2, low, high) - low) / (high - low)
        return np.rint(shares * 255).astype(np.uint8)

    @classmethod
    def of_windows(
        cls, windows: Callable[[], Iterable[np.ndarray]], count: int, dtype: np.dtype
    ) -> "Scale":
        """Return the scale of values.

        Args:
            windows: called for each pass; yields all values.
            count: how many values there are.
            dtype: their type.
        """
        if _is_small_integer(dtype):
            return cls.of_counts(small_histogram(windows(), dtype), dtype)
        low, high = percentiles_of_windows(windows, count, dtype, PERCENTILES)
        if high <= low:
            extremes = [(window.min(), window.max()) for window in windows()]
            low, high = min(e[0] for e in extremes), max(e[1] for e in extremes)
        return cls(float(low), float(high))

    @classmethod
    def of_counts(cls, counts: np.ndarray, dtype: np.dtype) -> "Scale":
        """Return the scale of values of 8 or 16 bit that occur so often, from the lowest one."""
        low, high = percentiles_of_counts(counts, dtype, PERCENTILES)
        if high <= low:
            present = np.flatnonzero(counts) + np.iinfo(dtype).min
            low, high = present[0], present[-1]
        return cls(float(low), float(high))


@lru_cache(maxsize=16)
def _table(scale: Scale, dtype: np.dtype) -> np.ndarray:
    """Return what each value of 8 or 16 bits becomes, by its bits taken as an unsigned number."""
    return scale._map(np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}").view(dtype))


@dataclass(frozen=True)
class PreparedImage:
    """An image as a model sees it, read window by window.

    Attributes:
        source: the file's own values.
        image_format: ``"RGB"``, ``"BGR"`` or ``"L"``.
        scale: of the whole image, to uint8; None if it is uint8 already.
        contrast: uint8 (256,), what each value becomes at last, or None.
    """

    source: ImageSource
    image_format: str
    scale: Scale | None = None
    contrast: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.source.shape

    def window(self, rows: slice, columns: slice) -> np.ndarray:
        """Return uint8 (h, w, 3), or (h, w, 1) for ``"L"``; see :meth:`ImageSource.window`."""
        pixels = self.source.window(rows, columns)
        if self.scale is not None:
            pixels = self.scale.apply(pixels)
        pixels = _arrange(pixels, self.image_format)
        return pixels if self.contrast is None else self.contrast[pixels]


def prepare(source: ImageSource, image_format: str, stretch_contrast: bool) -> PreparedImage:
    """Return an image as a model sees it, in training and prediction.

    Deeper ones than 8 bit are scaled as :func:`rescale_to_uint8` says, and the result once more
    for :class:`~unet_sharp_det.data.augmentation.StretchContrast`. The scale is that of the whole
    image, for any size: integers of 16 bits are counted in one pass over windows, wider types
    collected up to 2**26 values and beyond that ranked in two to four passes. The percentiles are
    exact in every case. An image of uint8 without stretching is not read at all.

    Args:
        source: what :func:`~unet_sharp_det.images.source.open_image` returns.
        image_format: the channels and their order, as in ``INPUT.FORMAT``.
        stretch_contrast: as in ``INPUT.STRETCH_CONTRAST``.

    Raises:
        ConfigError: ``image_format`` is unknown.
        DatasetError: the file is corrupt, or holds NaN or infinite pixels.
    """
    check_image_format(image_format)
    dtype = source.dtype
    if dtype == np.uint8 and not stretch_contrast:
        return PreparedImage(source, image_format)
    counts = small_histogram(_windows(source), dtype) if _is_small_integer(dtype) else None
    if counts is None:
        count = source.shape[0] * source.shape[1] * source.channels
        scale = Scale.of_windows(lambda: _windows(source), count, dtype)
    else:
        scale = None if dtype == np.uint8 else Scale.of_counts(counts, dtype)
    plain = PreparedImage(source, image_format, scale)
    if not stretch_contrast:
        return plain
    if counts is None or (source.channels == 3 and image_format == "L"):
        mapped = small_histogram(_windows(plain, source.channels), np.dtype(np.uint8))
    else:
        mapped = _mapped_counts(counts, scale, dtype)
        # Gray is stretched as three equal channels, whose percentiles may lie elsewhere.
        mapped *= 3 if source.channels == 1 and image_format != "L" else 1
    contrast = Scale.of_counts(mapped, np.dtype(np.uint8))
    table = contrast.apply(np.arange(256, dtype=np.uint8))
    return PreparedImage(source, image_format, scale, table)


def _is_small_integer(dtype: np.dtype) -> bool:
    return dtype.kind in "ui" and dtype.itemsize <= 2


def _windows(image: ImageSource | PreparedImage, channels: int | None = None) -> Iterator:
    channels = channels or image.channels
    return (image.window(*part) for part in row_bands(image.shape, channels))


def _mapped_counts(counts: np.ndarray, scale: Scale | None, dtype: np.dtype) -> np.ndarray:
    """Return how often each uint8 occurs after the scale."""
    if scale is None:
        return counts
    info = np.iinfo(dtype)
    table = scale.apply(np.arange(info.min, info.max + 1).astype(dtype))
    return np.bincount(table, weights=counts, minlength=256).astype(np.int64)


def _arrange(pixels: np.ndarray, image_format: str) -> np.ndarray:
    """Return uint8 pixels, (h, w, 1) or (h, w, 3) in RGB order, with the channels of the format."""
    is_gray = pixels.shape[2] == 1
    if image_format == "L":
        conversion = None if is_gray else cv2.COLOR_RGB2GRAY
    elif is_gray:
        conversion = cv2.COLOR_GRAY2RGB
    else:
        conversion = cv2.COLOR_RGB2BGR if image_format == "BGR" else None
    if conversion is None:
        return pixels
    if not pixels.size:
        return np.empty((*pixels.shape[:2], 1 if image_format == "L" else 3), np.uint8)
    return cv2.cvtColor(pixels, conversion).reshape(*pixels.shape[:2], -1)
