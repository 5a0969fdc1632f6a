"""The outlines of objects along the borders of their pixels, as exact polygons."""

from collections.abc import Iterator

import numpy as np
import shapely

from ..masks.instances import SparseInstances

_BLOCK = 512
_LARGE = 256  # side of the masks that are traced one by one, in pixels


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
    for start in range(0, len(instances), _BLOCK):
        masks = instances.masks[start : start + _BLOCK]
        corners = instances.boxes[start : start + _BLOCK, :2]
        simple = _trace_simple(masks, corners)
        for index, (mask, (left, top)) in enumerate(zip(masks, corners.tolist(), strict=True)):
            yield simple[index] if index in simple else trace_outline(mask, left, top)


def rings_of(outline: shapely.Geometry) -> list[np.ndarray]:
    """Return int64 (K, 2), x and y of the corners, of each ring; the first is not repeated.

    Each polygon's outer ring is followed by those of its holes.
    """
    rings = shapely.get_rings(shapely.get_parts(outline))
    return [shapely.get_coordinates(ring)[:-1].astype(np.int64) for ring in rings]


def _trace_simple(masks: list[np.ndarray], corners: np.ndarray) -> dict[int, shapely.Polygon]:
    """Do what :func:`trace_outline` does for many small masks at once, several times faster.

    Args:
        masks: bool arrays.
        corners: (N, 2), x and y of their first pixels.

    Returns:
        dict: outline by index, of the masks that are one part without holes, without pixels that
        touch at a corner only, and not large.
    """
    small = [index for index, mask in enumerate(masks) if max(mask.shape) <= _LARGE]
    if not small:
        return {}
    canvas, lefts, owner = _side_by_side([masks[index] for index in small])
    nw, ne, sw, se = canvas[:-1, :-1], canvas[:-1, 1:], canvas[1:, :-1], canvas[1:, 1:]
    crossings = (nw == se) & (ne == sw) & (nw != ne)
    is_simple = np.ones(len(small), bool)
    is_simple[owner[np.nonzero(crossings)[1]]] = False
    y, x = np.nonzero((nw ^ ne ^ sw ^ se) & is_simple[owner])
    rings = _follow(y, x)
    owners = owner[x[[ring[0] for ring in rings]]]
    single = np.bincount(owners, minlength=len(small))[owners] == 1
    rings = [ring for ring, alone in zip(rings, single, strict=True) if alone]
    if not rings:
        return {}
    owners = owners[single]
    ids = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    order = np.concatenate(rings)
    points = np.stack([x[order] - lefts[owners][ids], y[order]], axis=1)
    indices = np.array(small)[owners]
    points += corners[indices][ids]
    polygons = shapely.normalize(shapely.polygons(shapely.linearrings(points, indices=ids)))
    return dict(zip(indices.tolist(), polygons, strict=True))


def _side_by_side(masks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return masks on one canvas with background around each.

    Returns:
        tuple: the canvas, bool; (N,), the column of corners that each mask begins at; and the
        index of the mask that each column of corners belongs to.
    """
    widths = np.array([mask.shape[1] + 1 for mask in masks])
    lefts = np.cumsum(widths) - widths
    canvas = np.zeros((max(mask.shape[0] for mask in masks) + 2, widths.sum() + 1), bool)
    for mask, left in zip(masks, lefts.tolist(), strict=True):
        canvas[1 : mask.shape[0] + 1, left + 1 : left + 1 + mask.shape[1]] = mask
    return canvas, lefts, np.repeat(np.arange(len(masks)), widths)


def _follow(y: np.ndarray, x: np.ndarray) -> list[list[int]]:
    """Return rings as lists of indices of corners, which are sorted by row, then column.

    Along a row corners are by turns the first and the last one of a side, and so along a column.
    """
    by_column = np.lexsort((y, x))
    partners = np.empty(len(y), np.int64)
    partners[by_column] = by_column.reshape(-1, 2)[:, ::-1].ravel()
    partners, seen, rings = partners.tolist(), bytearray(len(y)), []
    for first in range(len(y)):
        if seen[first]:
            continue
        ring, corner = [], first
        while not seen[corner]:
            neighbour = corner ^ 1
            seen[corner] = seen[neighbour] = 1
            ring += corner, neighbour
            corner = partners[neighbour]
        rings.append(ring)
    return rings
