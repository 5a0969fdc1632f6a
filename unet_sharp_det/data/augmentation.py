"""What happens to images before the network: contrast, crop, resize, flips, turns, colour.

UNet#, Sec. 3.3 (Qian et al., arXiv 2205.11786), names RandomRotate90, flips, and "a random
selection (HSV color space transformation, brightness contrast change)". Unusable values are a
:class:`ConfigError`. Images are resized by factors: those of one microscope differ in size, their
pixels in scale less. ``ResizeShortestEdge`` brings all images to one size, and so cells to many.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T

from ..errors import ConfigError, look_up_option
from ..images.intensity import check_image_format, rescale_to_uint8

#: Of each flip, whether it is horizontal.
FLIPS = {"none": [], "horizontal": [True], "vertical": [False], "both": [True, False]}
CROP_TYPES = ("relative", "relative_range", "absolute", "absolute_range")


def build_augmentations(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Build the augmentations that ``cfg.INPUT`` asks for, in their order."""
    config = cfg.INPUT
    augmentations = [StretchContrast()] if config.STRETCH_CONTRAST else []
    if not is_train:
        return [*augmentations, build_test_resize(config)]
    augmentations += _build_crop_and_resize(config)
    flip = look_up_option(config.RANDOM_FLIP, FLIPS, "INPUT.RANDOM_FLIP", ConfigError)
    augmentations += [T.RandomFlip(horizontal=each, vertical=not each) for each in FLIPS[flip]]
    if config.RANDOM_ROTATE90:
        augmentations.append(RandomRotate90())
    if config.INVERT_PROB > 0:  # Stains and lamps differ, shapes less.
        _check_share("INVERT_PROB", config.INVERT_PROB)
        invert = T.ColorTransform(np.invert)
        augmentations.append(T.RandomApply(invert, config.INVERT_PROB))
    if config.COLOR.PROB > 0:
        changes = {name.lower(): value for name, value in config.COLOR.items()}
        augmentations.append(RandomColor(**changes, image_format=config.FORMAT))
    return augmentations


def _check_share(name: str, number: float) -> None:
    if not 0 <= number <= 1:
        raise ConfigError(f"INPUT.{name} is {number}, but must lie in 0..1.")


def build_test_resize(config: CfgNode) -> T.Augmentation:
    """Return how ``cfg.INPUT`` has images resized in evaluation and prediction.

    ``MAX_SIZE_TEST`` does not bound ``SCALE_TEST``: a smaller scale would find other objects.
    """
    if config.SCALE_TEST:
        return ScaleBy([config.SCALE_TEST])
    return T.ResizeShortestEdge(config.MIN_SIZE_TEST, config.MAX_SIZE_TEST, "choice")


def _build_crop_and_resize(config: CfgNode) -> list[T.Augmentation]:
    """By factors, the crop's size counts after the resize; to sizes, as in detectron2, before."""
    crops = [_build_crop(config.CROP)] if config.CROP.ENABLED else []
    if config.SCALE_TRAIN:
        scale = ScaleBy(config.SCALE_TRAIN, config.MAX_SIZE_TRAIN)
        if crops and config.CROP.TYPE == "absolute":
            return [RandomScaledCrop(scale, tuple(config.CROP.SIZE))]
        return [*crops, scale]
    sampling = config.MIN_SIZE_TRAIN_SAMPLING
    look_up_option(sampling, ("choice", "range"), "INPUT.MIN_SIZE_TRAIN_SAMPLING", ConfigError)
    return [*crops, T.ResizeShortestEdge(config.MIN_SIZE_TRAIN, config.MAX_SIZE_TRAIN, sampling)]


def _build_crop(config: CfgNode) -> T.RandomCrop:
    crop_type = look_up_option(config.TYPE, CROP_TYPES, "INPUT.CROP.TYPE", ConfigError)
    if crop_type.startswith("absolute"):
        size, wanted = tuple(int(side) for side in config.SIZE), "two sizes in whole pixels"
        usable = size == tuple(config.SIZE) and all(side >= 1 for side in size)
    else:
        size, wanted = tuple(config.SIZE), "two shares of the image above 0, and 1 at most"
        usable = all(0 < side <= 1 for side in size)
    if len(size) != 2 or not usable:
        raise ConfigError(f"INPUT.CROP.SIZE is {config.SIZE}, but '{crop_type}' takes {wanted}.")
    return T.RandomCrop(crop_type, size)


class ScaleBy(T.Augmentation):
    """Resize by one of ``factors``, all above 0; a side of more than ``max_size`` pixels is cut
    down to it."""

    def __init__(self, factors: Sequence[float], max_size: float = math.inf):
        super().__init__()
        if not factors or min(factors) <= 0:
            raise ConfigError(f"INPUT.SCALE_* is {list(factors)}, but takes factors above 0.")
        self.factors = tuple(factors)
        self.max_size = max_size

    def get_transform(self, image: np.ndarray) -> T.Transform:
        return self.resize(*image.shape[:2], np.random.choice(self.factors))

    def resize(self, height: int, width: int, factor: float) -> T.ResizeTransform:
        factor = min(factor, self.max_size / max(height, width))
        new_height, new_width = (max(1, round(side * factor)) for side in (height, width))
        return ResizeChannels(height, width, new_height, new_width)


class ResizeChannels(T.ResizeTransform):
    """detectron2's, which takes the second of two channels, and the fourth, for alpha."""

    def apply_image(self, img: np.ndarray, interp=None) -> np.ndarray:
        if img.ndim < 3 or img.shape[2] in (1, 3):
            return super().apply_image(img, interp)
        channels = [
            super(ResizeChannels, self).apply_image(each, interp) for each in np.rollaxis(img, 2)
        ]
        return np.stack(channels, axis=2)


class RandomScaledCrop(T.Augmentation):
    """Cut out what a drawn factor of ``scale``, whose ``max_size`` is of the crop, resizes to
    ``crop_size``, a (height, width) in pixels; a smaller image stays whole."""

    def __init__(self, scale: ScaleBy, crop_size: tuple[int, int]):
        super().__init__()
        self.scale = scale
        self.crop_size = crop_size

    def get_transform(self, image: np.ndarray) -> T.TransformList:
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


class Rotate90Transform(T.Transform):
    """Turn an image of this size, and all on it, by 0 to 3 quarter turns, counter-clockwise.

    detectron2's ``RotationTransform`` interpolates; here pixels are only permuted.
    """

    def __init__(self, height: int, width: int, quarter_turns: int):
        super().__init__()
        self.height = height
        self.width = width
        self.quarter_turns = quarter_turns

    def apply_image(self, img: np.ndarray) -> np.ndarray:
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


class RandomRotate90(T.Augmentation):
    """Turn by 0, 90, 180 or 270 degrees with equal probability: cells have no upright side."""

    def __init__(self):  # without arguments of its own, detectron2 could not print it
        super().__init__()

    def get_transform(self, image: np.ndarray) -> T.Transform:
        return Rotate90Transform(*image.shape[:2], int(np.random.randint(4)))


class StretchContrast(T.Augmentation):
    """Bring the percentiles 1 and 99.8 of an image to 0 and 255, before any cut: see
    :func:`unet_sharp_det.images.intensity.rescale_to_uint8`."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        return T.ColorTransform(rescale_to_uint8)


class RandomColor(T.Augmentation):
    """With probability ``prob``, change either HSV or brightness and contrast (half and half).

    Images that are no colour pictures (``"L"``, ``"CHANNELS"``) always get the latter.
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
            image_format: channel order of the images, as ``INPUT.FORMAT``.
        """
        super().__init__()
        for name, number in (("PROB", prob), ("BRIGHTNESS", brightness), ("CONTRAST", contrast)):
            _check_share(f"COLOR.{name}", number)
        if len(hsv) != 3 or min(hsv) < 0:
            raise ConfigError(f"INPUT.COLOR.HSV is {list(hsv)}, but must be three numbers >= 0.")
        self.prob = prob
        self.hsv = tuple(hsv)
        self.brightness = brightness
        self.contrast = contrast
        self.image_format = check_image_format(image_format)

    def get_transform(self, image: np.ndarray) -> T.Transform:
        if self._rand_range() >= self.prob:
            return T.NoOpTransform()
        if self.image_format in ("BGR", "RGB") and self._rand_range() < 0.5:
            shifts = tuple(self._rand_range(-limit, limit) for limit in self.hsv)
            return T.ColorTransform(lambda each: shift_hsv(each, shifts, self.image_format))
        brightness = 1 + self._rand_range(-self.brightness, self.brightness)
        contrast = 1 + self._rand_range(-self.contrast, self.contrast)
        # brightness * (mean + contrast * (image - mean))
        return T.BlendTransform(
            src_image=float(image.mean()),
            src_weight=brightness * (1 - contrast),
            dst_weight=brightness * contrast,
        )


def shift_hsv(
    image: np.ndarray, shifts: tuple[float, float, float], image_format: str
) -> np.ndarray:
    """Add a shift to hue, saturation and value of a uint8 image (H, W, 3), "BGR" or "RGB".

    Args:
        shifts: of the hue in degrees of 360, which wrap around; of saturation and value in units of
            255, clipped at 0 and 255.
    """
    # In float, since 8-bit HSV has steps of two degrees and loses colours without any shift.
    to_hsv = getattr(cv2, f"COLOR_{image_format}2HSV")
    hsv = cv2.cvtColor(image.astype(np.float32) / 255, to_hsv)
    hsv[:, :, 0] = (hsv[:, :, 0] + shifts[0]) % 360
    hsv[:, :, 1:] = np.clip(hsv[:, :, 1:] + np.array(shifts[1:], np.float32) / 255, 0, 1)
    from_hsv = getattr(cv2, f"COLOR_HSV2{image_format}")
    return np.rint(cv2.cvtColor(hsv, from_hsv) * 255).astype(np.uint8)
