"""Nodules as voxels: outlines of several readers, or spheres."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np

from ..volumes import Geometry
from .lidc_xml import Contour, Nodule, Readings


def consensus(
    readings: Readings,
    shape: tuple[int, int, int],
    slice_of: Callable[[Contour], int],
    agreement: float = 0.5,
) -> np.ndarray:
    """Return where at least the share ``agreement`` of the scan's readers drew a nodule.

    A reader who marked nothing there counts against it, so no nodules need to be matched.

    Args:
        shape: of the scan, (D, H, W).
        slice_of: the index of a contour's slice.

    Returns:
        (D, H, W) uint8 of 0 and 1, in the pixels of the contours.
    """
    votes = np.zeros(shape, np.uint8)
    for nodules in readings.readers:
        marked = np.zeros(shape, bool)
        for nodule in nodules:
            for index, mask in nodule_slices(nodule, shape[1:], slice_of):
                marked[index] |= mask
        votes += marked
    least = max(1, agreement * len(readings.readers))
    return (votes >= least).astype(np.uint8)


def nodule_slices(
    nodule: Nodule, shape: tuple[int, int], slice_of: Callable[[Contour], int]
) -> Iterable[tuple[int, np.ndarray]]:
    """Yield the index of each slice of a nodule and its mask there, (H, W) bool."""
    contours = defaultdict(list)
    for contour in nodule:
        contours[slice_of(contour)].append(contour)
    for index, outlines in contours.items():
        yield index, _enclosed(outlines, shape)


def _enclosed(contours: Iterable[Contour], shape: tuple[int, int]) -> np.ndarray:
    """What lies within the outlines; pixels of an outline, of a hole too, are no nodule."""
    mask = np.zeros(shape, np.uint8)
    for contour in sorted(contours, key=lambda each: not each.inclusion):
        area = np.zeros(shape, np.uint8)
        cv2.fillPoly(area, [contour.points], 1)
        if contour.inclusion:
            cv2.polylines(area, [contour.points], True, 0)
            mask |= area
        else:
            mask[area > 0] = 0
    return mask > 0


def paint_sphere(
    labels: np.ndarray, geometry: Geometry, centre: Sequence[float], diameter: float
) -> bool:
    """Set the voxels of ``labels`` (D, H, W) to 1 whose centres lie in a sphere.

    Args:
        centre: x, y, z in mm, in the patient (LPS).
        diameter: in mm.

    Returns:
        Whether there is any.
    """
    axes = np.reshape(geometry.direction, (3, 3))
    middle = (np.subtract(centre, geometry.origin) @ axes) / geometry.spacing
    reach = diameter / 2 / np.array(geometry.spacing)
    first = np.maximum(np.ceil(middle - reach), 0).astype(int)
    stop = np.clip(np.floor(middle + reach) + 1, first, geometry.size).astype(int)
    # z, y, x: the last axis of the array is x.
    box = tuple(map(slice, first[::-1], stop[::-1]))
    places = zip(np.ogrid[box], middle[::-1], geometry.spacing[::-1], strict=True)
    sphere = sum(((index - at) * step) ** 2 for index, at, step in places) <= (diameter / 2) ** 2
    labels[box][sphere] = 1
    return bool(sphere.any())
