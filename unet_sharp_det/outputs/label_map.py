"""Label maps: TIFF files whose pixels hold the number of their object."""

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..masks.instances import SparseInstances
from .write import OutputContext, windows

_STRIP_PIXELS = 2**21
_LARGEST_CLASSIC = 2**32 - 2**25  # bytes of pixels; the rest of 4 GiB is for tags


def write_labels(instances: SparseInstances, context: OutputContext, path: Path) -> None:
    """Write a label map strip by strip.

    Strips, not tiles, and no predictor, since ImageJ opens no others. The pixel size is written
    as ImageJ does, as pixels per micrometre with the unit in the description.
    """
    import tifffile

    height, width = instances.shape
    dtype = label_type(len(instances))
    rows = min(height, max(1, min(256, _STRIP_PIXELS // width)))
    description, resolution = None, None
    if context.pixel_size is not None:
        description = "ImageJ=1.54f\nunit=micron\n"
        resolution = tuple(1 / size for size in reversed(context.pixel_size))
    big = height * width * dtype.itemsize > _LARGEST_CLASSIC
    strips = (
        instances.paint(*part).astype(dtype) for part in windows((height, width), rows, width)
    )
    with tifffile.TiffWriter(path, bigtiff=big, byteorder="<") as tiff:
        tiff.write(
            (zlib.compress(strip.tobytes()) for strip in strips),
            shape=(height, width),
            dtype=dtype,
            photometric="minisblack",
            rowsperstrip=rows,
            compression="zlib",
            description=description,
            resolution=resolution,
            resolutionunit="NONE",
            metadata=None,
            software=False,
        )


def write_label_stack(
    pages: Iterable[np.ndarray],
    shape: tuple[int, ...],
    path: Path,
    *,
    largest: int,
    pixel_size: tuple[float, float] | None = None,
) -> None:
    """Write label maps as one TIFF, whose numbers stay as they are; ImageJ opens those of 16 bits.

    Args:
        pages: label maps (H, W) in the order of the axes before.
        shape: up to (T, Z, H, W).
        largest: of all numbers.
        pixel_size: (y, x) in micrometres, or None.
    """
    import tifffile

    dtype, metadata, resolution = label_type(largest), {"axes": "TZYX"[-len(shape) :]}, None
    if pixel_size is not None:
        metadata["unit"] = "micron"
        resolution = tuple(1 / size for size in reversed(pixel_size))
    is_imagej = dtype == np.uint16
    with tifffile.TiffWriter(path, imagej=is_imagej, bigtiff=not is_imagej) as tiff:
        tiff.write(
            (page.astype(dtype) for page in pages),
            shape=shape,
            dtype=dtype,
            metadata=metadata,
            resolution=resolution,
            compression="zlib",
        )


def label_type(objects: int) -> np.dtype:
    """The type of a map of so many objects."""
    return np.dtype("<u2" if objects < 2**16 else "<u4")
