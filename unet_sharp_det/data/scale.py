"""Resizing by factors: microscope images of one set differ in size, yet their pixels in scale less.

detectron2's ``ResizeShortestEdge`` brings all images to one size, and so cells to many.
"""

import math
from collections.abc import Sequence

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T

from ..errors import ConfigError

__all__ = ["RandomScaledCrop", "ScaleBy", "build_test_resize"]


class ScaleBy(T.Augmentation):
    """Resize by a factor drawn from a list; a longer side than ``max_size`` is cut down to it."""

    def __init__(self, factors: Sequence[float], max_size: float = math.inf):
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

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw the resize of an image of shape (H, W, C)."""
        return self.resize(*image.shape[:2], np.random.choice(self.factors))

    def resize(self, height: int, width: int, factor: float) -> T.ResizeTransform:
        """Return the resize of an image of this size by a drawn factor."""
        factor = min(factor, self.max_size / max(height, width))
        new_height, new_width = (max(1, round(side * factor)) for side in (height, width))
        return T.ResizeTransform(height, width, new_height, new_width)


class RandomScaledCrop(T.Augmentation):
    """Resize by a drawn factor and crop: cut out first, so that only the crop is resized."""

    def __init__(self, scale: ScaleBy, crop_size: tuple[int, int]):
        """
        Args:
            scale: has the factors; its ``max_size`` is of the crop.
            crop_size: (height, width) after the resize, in pixels; a smaller image stays whole.
        """
        super().__init__()
        self.scale = scale
        self.crop_size = crop_size

    def get_transform(self, image: np.ndarray) -> T.TransformList:
        """Draw the crop and resize of an image of shape (H, W, C)."""
        height, width = image.shape[:2]
        factor = np.random.choice(self.scale.factors)
        crop_height, crop_width = (
            min(side, max(1, round(wanted / factor)))
            for side, wanted in zip((height, width), self.crop_size, strict=True)
        )
        top = np.random.randint(height - crop_height + 1)
        left = np.random.randint(width - crop_width + 1)
        crop = T.CropTransform(left, top, crop_width, crop_height, width, height)
        return T.TransformList([crop, self.scale.resize(crop_height, crop_width, factor)])


def build_test_resize(config: CfgNode) -> T.Augmentation:
    """Return what images go through before the network, in evaluation as in prediction.

    Args:
        config: ``cfg.INPUT``. ``MAX_SIZE_TEST`` bounds ``MIN_SIZE_TEST``, as in detectron2, but not
            ``SCALE_TEST``: a smaller scale would find other objects.
    """
    if config.SCALE_TEST:
        return ScaleBy([config.SCALE_TEST])
    return T.ResizeShortestEdge(config.MIN_SIZE_TEST, config.MAX_SIZE_TEST, "choice")
