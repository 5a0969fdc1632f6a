"""Resizing by factors: microscope images of one set differ in size, yet their pixels in scale less.

detectron2's ``ResizeShortestEdge`` brings all images to one size, and so cells to many.
"""

from collections.abc import Sequence

import numpy as np
from detectron2.data import transforms as T

from unet_sharp_det.errors import ConfigError

__all__ = ["RandomScaledCrop", "ScaleBy"]


class ScaleBy(T.Augmentation):
    """Resize by a factor drawn from a list; a longer side than ``max_size`` is cut down to it."""

    def __init__(self, factors: Sequence[float], max_size: int):
        """
        Args:
            factors: all above 0, drawn with equal probability.
            max_size: in pixels.

        Raises:
            ConfigError: a factor is unusable.
        """
        super().__init__()
        if not factors or min(factors) <= 0:
            raise ConfigError(f"INPUT.SCALE_* is {list(factors)}, but takes factors above 0.")
        self.factors = tuple(factors)
        self.max_size = max_size

    def draw(self, height: int, width: int) -> float:
        """Draw the factor for an image of this size."""
        return min(np.random.choice(self.factors), self.max_size / max(height, width))

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw the resize of an image of shape (H, W, C)."""
        height, width = image.shape[:2]
        return _resize(height, width, self.draw(height, width))


class RandomScaledCrop(T.Augmentation):
    """Resize by a drawn factor and crop: cut out first, so that only the crop is resized."""

    def __init__(self, scale: ScaleBy, crop_size: tuple[int, int]):
        """
        Args:
            scale: draws the factor.
            crop_size: (height, width) after the resize, in pixels; a smaller image stays whole.
        """
        super().__init__()
        self.scale = scale
        self.crop_size = crop_size

    def get_transform(self, image: np.ndarray) -> T.TransformList:
        """Draw the crop and resize of an image of shape (H, W, C)."""
        height, width = image.shape[:2]
        factor = self.scale.draw(height, width)
        crop_height, crop_width = (
            min(side, max(1, round(wanted / factor)))
            for side, wanted in zip((height, width), self.crop_size, strict=True)
        )
        top = np.random.randint(height - crop_height + 1)
        left = np.random.randint(width - crop_width + 1)
        crop = T.CropTransform(left, top, crop_width, crop_height, width, height)
        return T.TransformList([crop, _resize(crop_height, crop_width, factor)])


def _resize(height: int, width: int, factor: float) -> T.ResizeTransform:
    new_height, new_width = (max(1, round(side * factor)) for side in (height, width))
    return T.ResizeTransform(height, width, new_height, new_width)
