"""What a model sees of an image: uint8, its channels, and the scale of the whole image."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from unet_sharp_det.images.decoding import PERCENTILES, check_image_format, map_to_uint8

from .percentiles import (
    percentiles_of_counts,
    percentiles_of_windows,
    row_bands,
    small_histogram,
)
from .source import ImageSource


@dataclass(frozen=True)
class Scale:
    """The linear map to 0 to 255 of :func:`unet_sharp_det.images.decoding.rescale_to_uint8`.

    Attributes:
        low, high: the values that become 0 and 255; those beyond are clipped. Where they are
            equal, everything becomes 0.
    """

    low: float
    high: float

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return uint8 of the shape of the values."""
        return map_to_uint8(values, self.low, self.high)

    @classmethod
    def of_counts(cls, counts: np.ndarray, dtype: np.dtype) -> "Scale":
        """Return the scale of values of 8 or 16 bit that occur so often, from the lowest one."""
        low, high = percentiles_of_counts(counts, dtype, PERCENTILES)
        if high <= low:
            present = np.flatnonzero(counts) + (np.iinfo(dtype).min)
            low, high = float(present[0]), float(present[-1])
        return cls(low, high)


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
    _table: np.ndarray | None = field(default=None, init=False, repr=False)

    def __post_init__(self):
        dtype = self.source.dtype
        if self.scale is not None and _is_small_integer(dtype):
            # Indexed by the bits of a value: signed ones as if they were unsigned.
            values = np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}").view(dtype)
            object.__setattr__(self, "_table", self.scale.apply(values))

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.source.shape

    def window(self, rows: slice, columns: slice) -> np.ndarray:
        """Return uint8 (h, w, 3), or (h, w, 1) for ``"L"``; see :meth:`ImageSource.window`."""
        pixels = self.source.window(rows, columns)
        if self._table is not None:
            pixels = self._table[pixels.view(f"u{pixels.dtype.itemsize}")]
        elif self.scale is not None:
            pixels = self.scale.apply(pixels)
        pixels = _arrange(pixels, self.image_format)
        return pixels if self.contrast is None else self.contrast[pixels]


def prepare(source: ImageSource, image_format: str, stretch_contrast: bool) -> PreparedImage:
    """Return an image as the mapper of the training shows it to the model, bit for bit.

    That is :func:`~unet_sharp_det.images.decoding.read_image` and, if asked,
    :class:`~unet_sharp_det.data.augmentation.StretchContrast`. The scale is that of the whole
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
    if _is_small_integer(dtype):
        counts = small_histogram(_windows(source), dtype)
        scale = None if dtype == np.uint8 else Scale.of_counts(counts, dtype)
    else:
        counts, scale = None, _wide_scale(source)
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


def _wide_scale(source: ImageSource) -> Scale:
    count = source.shape[0] * source.shape[1] * source.channels
    low, high = percentiles_of_windows(lambda: _windows(source), count, source.dtype, PERCENTILES)
    if high <= low:
        extremes = [(float(w.min()), float(w.max())) for w in _windows(source)]
        low, high = min(e[0] for e in extremes), max(e[1] for e in extremes)
    return Scale(low, high)


def _mapped_counts(counts: np.ndarray, scale: Scale | None, dtype: np.dtype) -> np.ndarray:
    """Return how often each uint8 occurs after the scale."""
    if scale is None:
        return counts
    info = np.iinfo(dtype)
    table = scale.apply(np.arange(info.min, info.max + 1).astype(dtype))
    return np.bincount(table, weights=counts, minlength=256).astype(np.int64)


def _arrange(pixels: np.ndarray, image_format: str) -> np.ndarray:
    """Return uint8 pixels, (h, w, 1) or (h, w, 3) in RGB order, with the channels of the format."""
    if image_format == "L":
        is_gray = pixels.shape[2] == 1 or not pixels.size
        return pixels[:, :, :1] if is_gray else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None]
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, ::-1]) if image_format == "BGR" else pixels
