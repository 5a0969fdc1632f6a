"""The outlines of objects along the borders of their pixels, as exact polygons."""

from collections.abc import Iterator

import numpy as np
import shapely

from unet_sharp_det.prediction.instances import SparseInstances


def trace_outline(mask: np.ndarray, left: int = 0, top: int = 0) -> shapely.Geometry:
    """Return the outline of a mask.

    Pixel (y, x) covers the square from (x, y) to (x + 1, y + 1), so that the area of the outline
    is the number of pixels, and all coordinates are whole numbers. Pixels that touch at a corner
    only are not connected.

    Args:
        mask: bool (h, w) with at least one pixel.
        left, top: the coordinates of its first pixel.

    Returns:
        shapely.Geometry: a Polygon, or a MultiPolygon of an object in several parts; valid, with
        corners only, its outer rings clockwise and the rings of holes counterclockwise where y
        points up.
    """
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    stops = np.nonzero(steps == -1)[1]
    y = rows + top
    runs = shapely.union_all(shapely.box(starts + left, y, stops + left, y + 1))
    return shapely.normalize(shapely.simplify(runs, 0))


def iterate_outlines(instances: SparseInstances) -> Iterator[shapely.Geometry]:
    """Yield the outline of each object in the coordinates of the image."""
    for mask, (left, top, _, _) in zip(instances.masks, instances.boxes.tolist(), strict=True):
        yield trace_outline(mask, left, top)


def rings_of(outline: shapely.Geometry) -> list[np.ndarray]:
    """Return int64 (K, 2), x and y of the corners, of each ring; the first is not repeated.

    Each polygon's outer ring is followed by those of its holes.
    """
    rings = shapely.get_rings(shapely.get_parts(outline))
    return [shapely.get_coordinates(ring)[:-1].astype(np.int64) for ring in rings]
