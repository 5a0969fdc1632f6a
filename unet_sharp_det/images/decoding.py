"""Whole images, as models are trained on them, and label maps."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..addresses import local_path
from ..errors import DatasetError, library_errors
from .formats import check_pixels, read_size
from .intensity import check_image_format, prepare, to_picture
from .source import ChannelsError, ImageSource, ReadOptions, open_image, open_pixels, planes_of
from .tiff import is_tiff

_ALL = slice(None)


def read_image(path, format: str) -> np.ndarray:
    """Read an image of any depth and number of channels as uint8, as a prediction sees it.

    Gray becomes as many equal channels as ``format`` has, alpha is dropped, orientation applied,
    and what is deeper than 8 bit is scaled as a whole (detectron2's own ``read_image`` turns 16-bit
    images into 0 and 255); see :func:`~unet_sharp_det.images.intensity.prepare`.

    Args:
        path: an image file, or its address, see :func:`.addresses.local_path`.
        format: the channel order, ``"BGR"``, ``"RGB"``, ``"L"`` or ``"CHANNELS"``, as in
            ``INPUT.FORMAT``.

    Returns:
        a uint8 array of shape (H, W, 3), (H, W, 1) for ``"L"``, or (H, W, C) for ``"CHANNELS"``.

    Raises:
        ConfigError: ``format`` is none of these.
        DatasetError: the file cannot be decoded, is larger than ``MAX_PIXELS``, or holds several
            planes, or other channels than one or three but for ``"CHANNELS"``.
    """
    check_image_format(format)
    # Of CHANNELS all are read, whichever is chosen.
    options = ReadOptions(channels=(0,)) if format == "CHANNELS" else None
    try:
        source = only_plane(open_image(local_path(path), options), path)
    except ChannelsError as error:
        raise DatasetError(f"{error} For a training, save what you choose as a file.") from error
    check_pixels(source.shape, path)
    pixels = prepare(source, format, stretch_contrast=False).window(_ALL, _ALL)
    return pixels if pixels.flags.writeable else pixels.copy()


def read_picture(path) -> np.ndarray:
    """Read an image as uint8 (H, W, 3) in RGB, to look at, whatever its channels; see
    :func:`.intensity.to_picture`. Raises as :func:`read_image` does."""
    source = only_plane(open_image(local_path(path), ReadOptions(channels=(0,))), path)
    check_pixels(source.shape, path)
    return to_picture(source)


def read_labels(path) -> np.ndarray:
    """Read a label map: the numbers that a file stores, turned as an image would be.

    Of a TIFF these are the numbers that ``tifffile.imread`` gives, whatever colours a palette shows
    them in; of another file with one bit per pixel 0 and 1.

    Args:
        path: an image file of one plane and one channel, a NumPy file, or its address, see
            :func:`.addresses.local_path`.

    Returns:
        integers (H, W).

    Raises:
        DatasetError: the file cannot be read, is larger than ``MAX_PIXELS``, or holds colours,
            several planes or fractions.
    """
    labels = read_stored(path)
    if labels.ndim != 2:
        what = f"{labels.shape[2]} channels" if labels.ndim == 3 else f"the shape {labels.shape}"
        raise DatasetError(
            f"{path}: has {what}, but a label map has one number per pixel. Save it as gray "
            "without palette or alpha, not a coloured picture."
        )
    if labels.dtype.kind == "f":
        if not ((np.abs(labels) < 2**53) & (labels == np.rint(labels))).all():
            raise DatasetError(f"{path}: holds fractions, but labels must be whole numbers.")
        return labels.astype(np.int64)
    return labels


def read_stored(path) -> np.ndarray:
    """Read a file's only plane as :func:`read_labels` does, with every channel that it stores.

    Returns:
        (H, W), or (H, W, channels), alpha among them; bool becomes uint8, any byte order the
        machine's.
    """
    local = local_path(path)
    if local.suffix.lower() == ".npy":
        check_pixels(read_shape(local), path)
        pixels = _load_array(local)
    else:
        source = _open_stored(local)
        check_pixels(source.shape, path)
        pixels = source.window(_ALL, _ALL)
        pixels = pixels[:, :, 0] if source.channels == 1 else pixels
    dtype = np.uint8 if pixels.dtype == bool else pixels.dtype.newbyteorder("=")
    return pixels.astype(dtype, copy=False)


def read_shape(path) -> tuple[int, int]:
    """Return the (height, width) of what :func:`read_stored` gives, without decoding it."""
    path = Path(path)
    if path.suffix.lower() == ".npy":
        return _load_array(path, mmap_mode="r").shape[:2]
    with library_errors(f"{path}: cannot be read"):
        return _open_stored(path).shape if is_tiff(path) else read_size(path)


def _open_stored(path: Path) -> ImageSource:
    """Return the only plane of a file with all that it stores, alpha among it."""
    image = open_pixels(path, ReadOptions())
    samples = image.shape[image.letters.index("S")] if "S" in image.letters else 1
    image = replace(image, palette=None, colours=samples, to_values=lambda pixels: pixels)
    planes = planes_of(image, path.name, str(path), ReadOptions(channels=(0,)))
    return only_plane(planes, path).with_all_channels()


def only_plane(planes: list[ImageSource], path) -> ImageSource:
    """Return the plane of a file that holds one image of one plane; DatasetError: it does not."""
    series = planes[0].series_count
    if len(planes) > 1 or series > 1:
        count = f"{len(planes)} pages" if len(planes) > 1 else f"{series} images"
        raise DatasetError(
            f"{path}: has {count}, but training and evaluation take one. Save files of their own."
        )
    return planes[0]


def _load_array(path: Path, **options) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False, **options)
    except Exception as error:  # NumPy has several for a file that is damaged.
        cause = f"cannot be read as a label map ({type(error).__name__}: {error})."
        if "pickle" in str(error) or "Python objects" in str(error):
            cause = (
                "is a pickled file, which could run any code. Of a _seg.npy of Cellpose save the "
                "masks alone, by cellpose --save_tif."
            )
        raise DatasetError(f"{path}: {cause}") from error
    if not isinstance(array, np.ndarray):
        raise DatasetError(f"{path}: is an archive (.npz), save one array per file with np.save.")
    if array.ndim < 2 or array.dtype.kind not in "buif":
        raise DatasetError(
            f"{path}: holds {array.dtype} of shape {array.shape}, not numbers (height, width)."
        )
    return array
