"""What a model sees of an image: uint8, its channels, and the scale of the whole image."""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from ..errors import ConfigError, look_up_option
from .source import ImageSource

#: CHANNELS: all channels of a file, however many, each on a scale of its own.
IMAGE_FORMATS = ("BGR", "RGB", "L", "CHANNELS")

# StarDist's usual normalisation: robust to hot pixels and to a few very bright nuclei.
PERCENTILES = (1.0, 99.8)
#: Of larger images the percentiles are those of every k-th row and column.
SAMPLE_PIXELS = 2**22
_BAND_VALUES = 2**22


def check_image_format(format: str) -> str:
    """Return ``format`` if it is one of :data:`IMAGE_FORMATS`, else raise :class:`ConfigError`."""
    return look_up_option(format, IMAGE_FORMATS, "INPUT.FORMAT", ConfigError)


def rescale_to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Map the percentiles 1 and 99.8 of ``pixels`` linearly to 0 and 255, and clip beyond them.

    All channels share one scale, so that colours keep their ratios. Where the percentiles
    coincide (a few bright spots on a flat ground) the minimum and maximum take their place, and
    a constant image becomes 0. Of more than :data:`SAMPLE_PIXELS` pixels, those of every k-th row
    and column are looked at. Tiles of one image would each get another scale: give it whole.

    Args:
        pixels: (H, W) or (H, W, channels), finite; uint8 of that shape is returned.
    """
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    step = _sample_step(pixels.shape)
    return Scale.of(pixels[::step, ::step]).apply(pixels)


@dataclass(frozen=True)
class Scale:
    """The linear map to 0 to 255 of :func:`rescale_to_uint8`."""

    low: float  # becomes 0
    high: float  # becomes 255; where both are equal, everything becomes 0

    @classmethod
    def of(cls, values: np.ndarray) -> "Scale":
        low, high = np.percentile(values, PERCENTILES)
        if high <= low:
            low, high = values.min(), values.max()
        return cls(float(low), float(high))

    def apply(self, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind not in "ui" or values.dtype.itemsize > 2:
            return self._map(values)
        return _table(self, values.dtype)[values.view(f"u{values.dtype.itemsize}")]

    def _map(self, values: np.ndarray) -> np.ndarray:
        if self.high <= self.low:
            return np.zeros(values.shape, np.uint8)
        low, high = self.low / 2, self.high / 2  # of float64, the whole difference may overflow
        shares = (np.clip(values.astype(np.float64) / 2, low, high) - low) / (high - low)
        return np.rint(shares * 255).astype(np.uint8)


@dataclass(frozen=True)
class ChannelScales:
    """A :class:`Scale` for each channel: dyes differ in brightness, colours of a picture do not."""

    scales: tuple[Scale, ...]

    @classmethod
    def of(cls, values: np.ndarray) -> "ChannelScales":
        return cls(tuple(Scale.of(values[:, :, c]) for c in range(values.shape[2])))

    def apply(self, values: np.ndarray) -> np.ndarray:
        scaled = [scale.apply(values[:, :, c]) for c, scale in enumerate(self.scales)]
        return np.stack(scaled, axis=2)


@lru_cache(maxsize=16)
def _table(scale: Scale, dtype: np.dtype) -> np.ndarray:
    """Return what each value of 8 or 16 bits becomes, by its bits taken as an unsigned number."""
    return scale._map(np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}").view(dtype))


@dataclass(frozen=True)
class PreparedImage:
    """An image as a model sees it, read window by window."""

    source: ImageSource
    image_format: str
    scale: Scale | ChannelScales | None = None  # of the whole image; None of an 8-bit picture
    contrast: np.ndarray | None = None  # uint8 (256,), what each value becomes at last
    factor: int = 1  # of the level that is read, see :meth:`ImageSource.reduced`

    @property
    def shape(self) -> tuple[int, int]:
        return self.source.shape

    def window(self, rows: slice, columns: slice) -> np.ndarray:
        """Return uint8 (h, w, 3), (h, w, 1) for ``"L"``, or (h, w, C) for ``"CHANNELS"``; see
        :meth:`ImageSource.window`. The slices count the image's pixels; of a level, what is
        returned is ``factor`` times smaller."""
        if self.factor > 1:
            ends = (part.indices(n) for part, n in zip((rows, columns), self.shape, strict=True))
            rows, columns = (slice(a // self.factor, b // self.factor) for a, b, _ in ends)
        window = self.source.reduced(self.factor).window(rows, columns)
        pixels = _arrange(window, self.scale, self.image_format)
        return pixels if self.contrast is None else self.contrast[pixels]


def prepare(
    source: ImageSource, image_format: str, stretch_contrast: bool, factor: int = 1
) -> PreparedImage:
    """Return an image as a model sees it, in training and prediction.

    Deeper ones than 8 bit are scaled as :func:`rescale_to_uint8` says, and the result once more
    for :class:`~unet_sharp_det.data.augmentation.StretchContrast`; with ``CHANNELS`` every channel
    is scaled so, of 8 bit too. The scale is that of the whole image, for any size: it is read once,
    by bands, if a scale is needed.

    Args:
        image_format: as in ``INPUT.FORMAT``.
        stretch_contrast: as in ``INPUT.STRETCH_CONTRAST``.
        factor: of the level that is read, and whose scale it is.

    Raises:
        ConfigError: ``image_format`` is unknown.
        DatasetError: the file is corrupt, or holds NaN or infinite pixels.
    """
    check_image_format(image_format)
    if image_format == "CHANNELS":
        source = source.with_all_channels()
        scales = ChannelScales.of(_sample(source.reduced(factor)))
        return PreparedImage(source, image_format, scales, factor=factor)
    is_deep = source.dtype != np.uint8
    if not is_deep and not stretch_contrast:
        return PreparedImage(source, image_format, factor=factor)
    sample = _sample(source.reduced(factor))
    scale, table = Scale.of(sample) if is_deep else None, None
    if stretch_contrast:
        contrast = Scale.of(_arrange(sample, scale, image_format))
        table = contrast.apply(np.arange(256, dtype=np.uint8))
    return PreparedImage(source, image_format, scale, table, factor)


def _sample_step(shape: tuple[int, ...]) -> int:
    return max(1, math.ceil(math.sqrt(shape[0] * shape[1] / SAMPLE_PIXELS)))


def _sample(source: ImageSource) -> np.ndarray:
    """Return the values of every k-th row and column, read by bands that k divides."""
    height, width = source.shape
    step = _sample_step(source.shape)
    rows = step * max(1, _BAND_VALUES // (width * source.channels * step))
    bands = [
        source.window(slice(top, top + rows), slice(0, width))[::step, ::step].copy()
        for top in range(0, height, rows)
    ]
    return np.concatenate(bands)


def to_picture(source: ImageSource) -> np.ndarray:
    """Return an image as uint8 (H, W, 3) in RGB, to look at: of two channels, or more than three,
    the first three are red, green and blue."""
    everything = (slice(None), slice(None))
    if source.total_channels in (1, 3):
        return prepare(source.with_all_channels(), "RGB", False).window(*everything)
    pixels = prepare(source, "CHANNELS", False).window(*everything)[:, :, :3]
    return np.pad(pixels, ((0, 0), (0, 0), (0, 3 - pixels.shape[2])))


def _arrange(
    pixels: np.ndarray, scale: Scale | ChannelScales | None, image_format: str
) -> np.ndarray:
    """Return uint8 in the channels of the format, of pixels (h, w, 1) or (h, w, 3) in RGB order;
    for ``CHANNELS`` of (h, w, C)."""
    if scale is not None:
        pixels = scale.apply(pixels)
    if image_format == "CHANNELS":
        return pixels
    is_gray = pixels.shape[2] == 1
    if image_format == "L":
        if is_gray or not pixels.size:
            return pixels[:, :, :1]
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None]
    if is_gray:
        return pixels.repeat(3, axis=2)
    return np.ascontiguousarray(pixels[:, :, ::-1]) if image_format == "BGR" else pixels
