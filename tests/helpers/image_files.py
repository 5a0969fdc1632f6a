"""Files and arrays of tests that read images."""

import numpy as np
import tifffile

from unet_sharp_det.errors import UserError
from unet_sharp_det.images.source import ReadOptions, open_image

ALL = slice(None)
GRAY, COLOUR = (45, 70), (45, 70, 3)
TILED = {"tile": (16, 32)}


def noise(*shape, dtype="uint8", seed=0):
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.normal(size=shape).astype(dtype)
    if dtype == "bool":
        return random.random(shape) > 0.5
    info = np.iinfo(dtype)
    return random.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def write(path, array, **settings):
    tifffile.imwrite(path, array, **settings)
    return path


def whole(source):
    return source.window(ALL, ALL)


def read(path, **options):
    return [whole(source) for source in open_image(path, ReadOptions(**options))]


def contents(path):
    return [(s.name, s.pixel_size, whole(s).tobytes()) for s in open_image(path)]


def refusal(path, **options) -> str:
    """Read a file that may be broken; return the message of the error, or nothing."""
    try:
        read(path, **options)
    except UserError as error:
        return str(error)
    return ""
