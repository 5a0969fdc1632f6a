"""Augmentations for cells: exact quarter turns, and one of two colour changes.

Source: UNet#, Sec. 3.3 (Qian et al., arXiv 2205.11786): RandomRotate90, flips, and "a random
selection (HSV color space transformation, brightness contrast change)". detectron2's own
``RandomRotation`` interpolates and its boxes grow; here pixels are only permuted.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.data import transforms as T

from ..errors import ConfigError
from ..images.intensity import check_image_format, rescale_to_uint8

__all__ = [
    "HSVShiftTransform",
    "RandomColor",
    "RandomRotate90",
    "Rotate90Transform",
    "StretchContrast",
]

_TO_HSV = {"BGR": cv2.COLOR_BGR2HSV, "RGB": cv2.COLOR_RGB2HSV}
_FROM_HSV = {"BGR": cv2.COLOR_HSV2BGR, "RGB": cv2.COLOR_HSV2RGB}


class Rotate90Transform(T.Transform):
    """Turn an image and all that lies on it counter-clockwise by quarter turns, without loss."""

    def __init__(self, height: int, width: int, quarter_turns: int):
        """
        Args:
            height, width: size of the image before the turn, in pixels.
            quarter_turns: any whole number; 1 is 90 degrees counter-clockwise.
        """
        super().__init__()
        self.height = height
        self.width = width
        self.quarter_turns = quarter_turns % 4

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Turn an array of shape (H, W) or (H, W, C)."""
        return np.ascontiguousarray(np.rot90(img, self.quarter_turns))

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Turn points (x, y), shape (N, 2), in pixels with the origin at the image's corner."""
        x, y = coords[:, 0], coords[:, 1]
        turned = (
            (x, y),
            (y, self.width - x),
            (self.width - x, self.height - y),
            (self.height - y, x),
        )[self.quarter_turns]
        return np.stack(turned, axis=1)

    def inverse(self) -> T.Transform:
        """Return the turn back."""
        height, width = self.height, self.width
        if self.quarter_turns % 2:
            height, width = width, height
        return Rotate90Transform(height, width, -self.quarter_turns)


class RandomRotate90(T.Augmentation):
    """Turn by 0, 90, 180 or 270 degrees with equal probability: cells have no upright side."""

    def __init__(self):  # without arguments of its own, detectron2 could not print it
        super().__init__()

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw the turn of an image of shape (H, W, C)."""
        return Rotate90Transform(*image.shape[:2], int(np.random.randint(4)))


class HSVShiftTransform(T.Transform):
    """Add a shift to hue, saturation and value of a uint8 image; masks and boxes stay."""

    def __init__(self, hue: float, saturation: float, value: float, image_format: str):
        """
        Args:
            hue: in degrees of 360; hues wrap around.
            saturation, value: in units of 255; clipped at 0 and 255.
            image_format: ``"BGR"`` or ``"RGB"``.
        """
        super().__init__()
        self.hue = hue
        self.saturation = saturation
        self.value = value
        self.image_format = image_format

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Shift the colours of a uint8 array of shape (H, W, 3)."""
        # In float, since 8-bit HSV has steps of two degrees and loses colours without any shift.
        hsv = cv2.cvtColor(img.astype(np.float32) / 255, _TO_HSV[self.image_format])
        hsv[:, :, 0] = (hsv[:, :, 0] + self.hue) % 360
        shift = np.array([self.saturation, self.value], np.float32) / 255
        hsv[:, :, 1:] = np.clip(hsv[:, :, 1:] + shift, 0, 1)
        shifted = cv2.cvtColor(hsv, _FROM_HSV[self.image_format])
        return np.rint(shifted * 255).astype(np.uint8)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Return ``coords`` as they are."""
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Return ``segmentation`` as it is."""
        return segmentation

    def inverse(self) -> T.Transform:
        """Return no change: nothing moved."""
        return T.NoOpTransform()


class RandomColor(T.Augmentation):
    """With probability ``prob``, change either HSV or brightness and contrast (half and half).

    A grayscale image (``"L"``) always gets the latter.
    """

    def __init__(
        self,
        prob: float,
        *,
        hsv: Sequence[float],
        brightness: float,
        contrast: float,
        image_format: str,
    ):
        """
        Args:
            prob: probability of any change, 0 to 1.
            hsv: largest shifts of hue (degrees of 360), saturation and value (of 255).
            brightness: largest relative change of all pixels, 0 to 1.
            contrast: largest relative change of the distance to the image's mean, 0 to 1.
            image_format: channel order of the images, ``"BGR"``, ``"RGB"`` or ``"L"``.

        Raises:
            ConfigError: a value is out of its range.
        """
        super().__init__()
        for name, number in (("PROB", prob), ("BRIGHTNESS", brightness), ("CONTRAST", contrast)):
            if not 0 <= number <= 1:
                raise ConfigError(f"INPUT.COLOR.{name} is {number}, but must lie in 0..1.")
        if len(hsv) != 3 or min(hsv) < 0:
            raise ConfigError(f"INPUT.COLOR.HSV is {list(hsv)}, but must be three numbers >= 0.")
        self.prob = prob
        self.hsv = tuple(hsv)
        self.brightness = brightness
        self.contrast = contrast
        self.image_format = check_image_format(image_format)

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw the change of a uint8 image of shape (H, W, C)."""
        if self._rand_range() >= self.prob:
            return T.NoOpTransform()
        if self.image_format != "L" and self._rand_range() < 0.5:
            shifts = [self._rand_range(-limit, limit) for limit in self.hsv]
            return HSVShiftTransform(*shifts, self.image_format)
        brightness = 1 + self._rand_range(-self.brightness, self.brightness)
        contrast = 1 + self._rand_range(-self.contrast, self.contrast)
        # brightness * (mean + contrast * (image - mean))
        return T.BlendTransform(
            src_image=float(image.mean()),
            src_weight=brightness * (1 - contrast),
            dst_weight=brightness * contrast,
        )


class StretchContrast(T.Augmentation):
    """Bring the percentiles 1 and 99.8 of an image to 0 and 255, without chance.

    Fluorescence images are dark, each in its own way. It must come before any cut: see
    :func:`unet_sharp_det.images.intensity.rescale_to_uint8`.
    """

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return the stretch, which leaves all but images as it is."""
        return T.ColorTransform(rescale_to_uint8)
