"""How a predictor looks at images, and how it makes do with less memory."""

import logging
from dataclasses import dataclass, replace
from numbers import Real
from typing import Literal

from ..errors import ConfigError, UserError

logger = logging.getLogger(__name__)

_BATCH_AREA = 512 * 512
SMALLEST_TILE = 64
AUTO = "auto"
#: Tiles grow up to so many times where the network sees the image smaller.
_LARGEST_GROWTH = 4
#: Where all scores are kept to choose among later, objects are looked for from this one on.
LOWEST_SCORE = 0.05
#: With less, pieces of an object in two tiles could not be told to be of one.
_SMALLEST_OVERLAP = 8
#: In pixels of the network's input. Lite0 and the # neck: 128 of them off a tile's edge their maps
#: differ by .8 to 3 % from those of the whole image, 256 of them off by .04 to .16 %.
_OVERLAP = 256


@dataclass(frozen=True)
class PredictionOptions:
    """How a :class:`Predictor` looks at images.

    Attributes:
        score_threshold: objects of at least this score are found, from 0 to 1. A semantic model's
            objects have the mean probability of their pixels, and up to .5 all of them are found;
            for those of a watershed see :func:`.objects_of_bands`. None: the model's own,
            ``TEST.INSTANCES.SCORE_THRESHOLD`` of its config.
        min_area: objects of at least this many pixels, those of higher scores taken off. None: the
            model's own, ``TEST.INSTANCES.MIN_AREA``, which ``scale`` makes larger or smaller.
        clean: objects have no holes, and of several pieces keep the largest.
        max_covered: objects vanish of which those of higher scores cover more than this share: most
            are second detections of the same object.
        batch_size: windows of equal size that the network sees at once, if they are of up to 512 x
            512 pixels; of larger ones as many as have that area together. On a CPU 1 is fastest.
        tile_size: side in pixels of the tiles that larger images are cut into.
        tile_overlap: pixels that neighbouring tiles share, no fewer than an object's. None: 256 of
            the network's input, but at most 256 of the image, or a quarter of a larger tile_size.
        scale: factor to resize images by beside what the model was trained with: 0.5 for objects
            that are twice as large as those of the training. None: the pixel size of an image over
            that of the model, ``INPUT.PIXEL_SIZE``, if both are known; else 1. "auto": that at
            which the objects have sizes as in the training, see :mod:`.fitting_scale`.
        precision: of the network's arithmetic, see :func:`runtime.accelerate`.
        tta: test-time augmentation: each window is seen in :data:`.VIEWS`, eight times as slowly.
    """

    score_threshold: float | None = None
    min_area: int | None = None
    clean: bool = True
    max_covered: float = 0.5
    batch_size: int = 1
    tile_size: int = 1024
    tile_overlap: int | None = None
    scale: float | Literal["auto"] | None = None
    precision: str = AUTO
    tta: bool = False

    def batch_of(self, shape: tuple[int, ...]) -> int:
        """Return how many windows (height, width, ...) the network sees at once.

        In int8 it is one: the others would change its result.
        """
        if self.precision == "int8":
            return 1
        return max(1, self.batch_size * _BATCH_AREA // max(_BATCH_AREA, shape[0] * shape[1]))

    def __post_init__(self):
        checks = {
            "score_threshold": (0 <= (self.score_threshold or 0) <= 1, "from 0 to 1"),
            "min_area": ((self.min_area or 0) >= 0, "0 or more pixels"),
            "max_covered": (0 <= self.max_covered <= 1, "from 0 to 1"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "tile_size": (self.tile_size >= SMALLEST_TILE, f"{SMALLEST_TILE} or more pixels"),
            "tile_overlap": (
                self.tile_overlap is None
                or _SMALLEST_OVERLAP <= self.tile_overlap <= self.tile_size // 2,
                f"from {_SMALLEST_OVERLAP} to {self.tile_size // 2}, half of tile_size",
            ),
            "scale": (
                self.scale in (None, AUTO) or isinstance(self.scale, Real) and 0 < self.scale <= 64,
                "above 0, and 64 at most, or auto",
            ),
        }
        for name, (is_valid, range_) in checks.items():
            if not is_valid:
                raise ConfigError(f"{name} is {getattr(self, name)}, but it must be {range_}.")

    def completed(self, score_threshold: float, min_area: int) -> "PredictionOptions":
        """Return options with a model's own values, of images at ``scale`` 1, where these leave
        them to it; while the scale is not known the area stays open."""
        area = None if self.scale in (None, AUTO) else round(min_area / self.scale**2)
        own = {"score_threshold": score_threshold, "min_area": area}
        return replace(self, **{k: v for k, v in own.items() if getattr(self, k) is None})

    def at_scale(self, scale: float) -> "PredictionOptions":
        """Return options for a scale. Where it is small, objects are large, and tiles too."""
        growth = max(1.0, min(1 / scale, _LARGEST_GROWTH))
        overlap = self.tile_overlap and int(growth * self.tile_overlap)
        size = int(growth * self.tile_size)
        return replace(self, scale=scale, tile_size=size, tile_overlap=overlap)

    def overlap_at(self, factor: float) -> int:
        """Return the pixels that tiles share where the network sees an image larger by a factor."""
        if self.tile_overlap is not None:
            return self.tile_overlap
        largest = max(min(_OVERLAP, self.tile_size // 2), self.tile_size // 4)
        return min(max(_SMALLEST_OVERLAP, round(_OVERLAP / factor)), largest)

    def halved(self, side: int, alignment: int) -> "PredictionOptions":
        """Return options for less memory than a window of this side in pixels took.

        Raises:
            UserError: tiles are as small as is useful.
        """
        if self.batch_size > 1 and side == self.tile_size:
            logger.warning("Out of GPU memory: trying tiles one by one.")
            return replace(self, batch_size=1)
        smaller = side // 2
        overlap = self.tile_overlap and min(self.tile_overlap, smaller // 2)
        if smaller < max(SMALLEST_TILE, (overlap or smaller // 2) + alignment):
            raise UserError(
                f"The device's memory doesn't suffice for a window of {side} pixels. Give a "
                "smaller scale, or device='cpu'."
            )
        logger.warning(f"Out of GPU memory: trying tiles of {smaller} pixels.")
        return replace(self, tile_size=smaller, tile_overlap=overlap, batch_size=1)
