"""Outlines of objects become masks: a pixel is in an object if its centre is."""

from collections.abc import Sequence

import numpy as np

from ...errors import DatasetError
from ...masks import encode_mask


def paint(rings: Sequence[Sequence], shape: tuple[int, int], where: str) -> dict:
    """Return the mask of what lies within an odd number of rings as RLE.

    Pixel (y, x) covers the square from (x, y) to (x + 1, y + 1), as in QuPath, ImageJ and Aperio.

    Args:
        rings: of each the corners (K, 2), x and y; the first may be repeated at the end, and what
            follows x and y, such as a height, is passed over.
        shape: (height, width) of the image.
        where: what errors call the object.

    Raises:
        DatasetError: a ring is no list of points, or nothing of it lies in the image.
    """
    from skimage.draw import polygon

    mask = np.zeros(shape, bool)
    for ring in rings:
        try:
            points = np.array([(float(x), float(y)) for x, y, *_ in ring])
        except (TypeError, ValueError):
            points = np.zeros((0, 2))
        if len(points) < 3 or not np.isfinite(points).all():
            raise DatasetError(f"{where}: is no outline of three points or more. Draw it again.")
        rows, columns = polygon(points[:, 1] - 0.5, points[:, 0] - 0.5, shape)
        mask[rows, columns] ^= True
    if not mask.any():
        raise DatasetError(
            f"{where}: lies out of its image of (height, width) {shape}, or covers no pixel. "
            "Delete it, or give the image that it was drawn on."
        )
    return encode_mask(mask, shape)
