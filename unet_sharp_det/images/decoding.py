"""Reading microscopy images as the 8-bit, HWC arrays that detectron2's models expect."""

import os
from pathlib import Path
from threading import Lock

import cv2
import numpy as np
from detectron2.utils.file_io import PathManager

from unet_sharp_det.errors import ConfigError, DatasetError, look_up_option

from .header import ImageHeader, read_header

IMAGE_FORMATS = ("BGR", "RGB", "L")

# StarDist's usual normalisation: robust to hot pixels and to a few very bright nuclei.
PERCENTILES = (1.0, 99.8)

#: Pixels that are decoded at once: 16384 x 16384. A file of some KB can claim to hold far more.
MAX_PIXELS = 2**28

_OPENCV_PIXELS = 2**30  # OpenCV's own limits: of an image, and of the bytes of a buffer
_OPENCV_BYTES = 2**31 - 1


class _QuietOpenCV:
    """Keeps OpenCV from logging of a broken file what our error says; for any number of threads."""

    def __init__(self):
        self._lock = Lock()
        self._inside = 0
        self._level = None

    def __enter__(self):
        with self._lock:
            if not self._inside:
                self._level = cv2.utils.logging.getLogLevel()
                cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
            self._inside += 1

    def __exit__(self, *_):
        with self._lock:
            self._inside -= 1
            if not self._inside:
                cv2.utils.logging.setLogLevel(self._level)


_quiet_opencv = _QuietOpenCV()


def decode(path, flags: int = cv2.IMREAD_UNCHANGED, limit: int = MAX_PIXELS) -> np.ndarray:
    """Decode an image file completely; half a file is an error, never half an image.

    Args:
        path: a local image file of a format that OpenCV reads (PNG, TIFF, JPEG, ...).
        flags: ``cv2.IMREAD_*``; the default keeps the bit depth and every channel.
        limit: the largest number of pixels; OpenCV decodes at most 2**30.

    Returns:
        an array of shape (H, W), or (H, W, 3 or 4) with the channels in BGR(A) order.

    Raises:
        DatasetError: the file is missing or cannot be read, is not an image, is truncated or
            corrupt, or has more pixels than ``limit``.
    """
    if check_pixels(path, min(limit, _OPENCV_PIXELS)).is_cut_short:
        raise DatasetError(f"{path}: cannot be decoded, the file is truncated: its end is missing.")
    try:
        with _quiet_opencv:
            pixels = _decode_file(path, flags)
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: cannot be decoded, the file does not exist.") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except cv2.error:
        pixels = None
    if pixels is None:
        raise DatasetError(
            f"{path}: cannot be decoded, the file is corrupt, truncated or no image."
        )
    return pixels


def _decode_file(path, flags: int) -> np.ndarray | None:
    # OpenCV crashes on a name that is no UTF-8, as of an archive from Windows, if given as str.
    if os.path.getsize(path) > _OPENCV_BYTES:
        return cv2.imread(os.fsencode(path), flags)
    return cv2.imdecode(np.frombuffer(Path(path).read_bytes(), np.uint8), flags)


_TOO_LARGE = (
    "Cut it into parts; for predictions, save it as tiled TIFF, which is read by parts, or raise "
    "--max-pixels."
)


def check_pixels(path, limit: int = MAX_PIXELS, remedy: str = _TOO_LARGE) -> ImageHeader:
    """Check the size that an image file claims, before memory is taken for it.

    Of formats that :func:`read_header` does not know, OpenCV limits the size itself, to 2**30.

    Args:
        path: a local file; one that is missing or no image passes, for the decoder to name it.
        limit: the largest number of pixels.
        remedy: what the user can do about a larger one.

    Returns:
        the header.

    Raises:
        DatasetError: the image is larger.
    """
    try:
        header = read_header(path)
    except OSError:
        return ImageHeader(None)
    height, width = header.shape or (0, 0)
    if height * width > limit:
        raise DatasetError(
            f"{path}: has {height} x {width} pixels (height x width), {height * width:,} in all, "
            f"but at most {limit:,} are decoded at once. {remedy} If it should be small, do not "
            "use it: its header may be made to fill the memory."
        )
    return header


def read_image(path, format: str) -> np.ndarray:
    """Read an image of any depth and number of channels as uint8.

    Grayscale becomes as many equal channels as ``format`` has, an alpha channel is dropped, EXIF
    orientation is applied, and anything deeper than 8 bit goes through :func:`rescale_to_uint8`
    over the whole image (PIL's ``convert("RGB")``, which detectron2's own ``read_image`` uses,
    turns 16-bit images into 0 and 255).

    Args:
        path: an image file, or a URI that detectron2's ``PathManager`` resolves.
        format: the channel order, ``"BGR"``, ``"RGB"`` or ``"L"``, as in ``INPUT.FORMAT``.

    Returns:
        a uint8 array of shape (H, W, 3), or (H, W, 1) for ``"L"``.

    Raises:
        ConfigError: ``format`` is none of the three.
        DatasetError: the file cannot be decoded.
    """
    check_image_format(format)
    # Unlike IMREAD_UNCHANGED these drop alpha and apply EXIF; IMREAD_COLOR fails on float gray.
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    pixels = decode(PathManager.get_local_path(os.fspath(path)), flags)
    if pixels.dtype != np.uint8:
        if not np.isfinite(pixels).all():
            raise DatasetError(f"{path}: holds NaN or infinite pixels. Replace them, then retry.")
        pixels = rescale_to_uint8(pixels)
    return _arrange_channels(pixels, format)


def _arrange_channels(pixels: np.ndarray, format: str) -> np.ndarray:
    """Return uint8 pixels, (H, W) or (H, W, 3) in BGR order, with the channels of ``format``."""
    is_gray = pixels.ndim == 2
    if format == "L":
        return (pixels if is_gray else cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY))[:, :, None]
    if is_gray:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if format == "RGB" else pixels


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
        pixels: an array of any shape and numeric type, with finite values.

    Returns:
        a uint8 array of the same shape.
    """
    return map_to_uint8(pixels, *percentile_range(pixels))


def percentile_range(pixels: np.ndarray) -> tuple[float, float]:
    """Return the values that :func:`rescale_to_uint8` maps to 0 and 255; equal: all are one."""
    low, high = np.percentile(pixels, PERCENTILES)
    if high <= low:
        low, high = float(pixels.min()), float(pixels.max())
    return low, high


def map_to_uint8(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map ``low`` to 0 and ``high`` to 255, linearly, and clip beyond them.

    Args:
        values: an array of any shape and numeric type, with finite values.
        low, high: where they are equal, everything becomes 0.

    Returns:
        a uint8 array of the same shape.
    """
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    scaled = (values.astype(np.float32) - low) * (255.0 / (high - low))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
