"""The picture of an image as a pyramid of tiles, of which a browser loads what it shows."""

import math
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from ..errors import UserError
from ..images.intensity import prepare
from ..images.source import ImageSource
from ..masks.drawing import downscale

#: Side of a tile in pixels; even, so that a tile's half lies in one tile of the next level.
TILE = 512
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95)


def write_tiles(source: ImageSource, folder: Path) -> int:
    """Write an image with stretched contrast as ``LEVEL/COLUMN_ROW.jpg``.

    Each level is half as large as the next one; level 0 is one tile. One band of the image and one
    reduced picture of a quarter of its pixels are in memory at a time.

    Returns:
        the number of the last level, which has the image's own size.
    """
    height, width = source.shape
    last = max(0, math.ceil(math.log2(max(height, width) / TILE)))
    display = prepare(source, "RGB", stretch_contrast=True)
    rows = (slice(top, min(top + TILE, height)) for top in range(0, height, TILE))
    bands = (display.window(each, slice(0, width)) for each in rows)
    for level in range(last, -1, -1):
        half = _write_level(bands, (height, width), folder / str(level))
        height, width = half.shape[:2]
        bands = [half[top : top + TILE] for top in range(0, height, TILE)]
    return last


def _write_level(bands: Iterable[np.ndarray], shape: tuple[int, int], folder: Path) -> np.ndarray:
    """Write the tiles of bands, uint8 (TILE or less, W, 3); return the whole at half its size."""
    folder.mkdir(parents=True)
    half = np.empty((math.ceil(shape[0] / 2), math.ceil(shape[1] / 2), 3), np.uint8)
    for row, band in enumerate(bands):
        for column, left in enumerate(range(0, shape[1], TILE)):
            path = folder / f"{column}_{row}.jpg"
            if not cv2.imwrite(str(path), band[:, left : left + TILE, ::-1], _JPEG):
                raise UserError("The picture cannot be written. Make room on the disk.")
        top = row * TILE // 2
        reduced = downscale(band, 2)
        half[top : top + len(reduced)] = reduced
    return half
