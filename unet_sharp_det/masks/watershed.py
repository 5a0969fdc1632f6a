"""Objects by a watershed: of a model's bands of distance, or of a foreground's shape.

The *bands* part the pixels of an object by their distance to its edge. Between objects that touch
the distance falls to its least, so that a watershed finds where they meet (Bai & Urtasun, "Deep
Watershed Transform", CVPR 2017, Sec. 3).
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

#: Pixels of distance in each band but the last, which has no end.
BAND = 2.0
#: A pixel is taken to be in a band, or a deeper one, from this probability on.
LIKELY = 0.5


def distance_bands(
    objects: np.ndarray, bands: int, spacing: Sequence[float] | None = None
) -> np.ndarray:
    """Return the band of each pixel: uint8, 0 for the background, 1 at an edge to ``bands``.

    Beyond the image an object goes on: there is no edge.

    Args:
        objects: integers (H, W), or (D, H, W): 0 is the background, each object has a number.
        bands: 2 to 255.
        spacing: sides of a pixel, in the order of the axes. None: all are 1. A band is
            :data:`BAND` times the least of them wide.

    Example::

        >>> import numpy as np
        >>> distance_bands(np.array([[0, 1, 1, 1, 1, 1, 2, 2, 2, 0]]), bands=3)
        array([[0, 1, 1, 2, 1, 1, 1, 1, 1, 0]], dtype=uint8)
    """
    width = BAND * min(spacing or (1,))
    found = np.zeros(objects.shape, np.uint8)
    for number, part in enumerate(ndimage.find_objects(objects), start=1):
        if part is None:
            continue
        window = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in part)
        inside = objects[window] == number
        if inside.all():
            found[window] = bands
            continue
        distances = ndimage.distance_transform_edt(inside, sampling=spacing)[inside]
        found[window][inside] = np.minimum(np.ceil(distances / width), bands)
    return found


def objects_of_bands(
    probabilities: np.ndarray, min_area: int = 0, least_score: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Part the foreground into objects.

    Each connected region of the deepest band is the middle of an object, from which the watershed
    (scikit-image's) goes up to the edge. Foreground without such a region is an object.

    Args:
        probabilities: float (bands, H, W), or (bands, D, H, W): channel c of lying deeper than c
            bands, channel 0 of being foreground.
        min_area: objects of fewer pixels are left out.
        least_score: objects of lower scores are left out.

    Returns:
        int32 (H, W): 0 is background, the objects are 1..N; and the score of each, float (N,): 0 if
        the mean probability of its pixels to be foreground is .5, 1 if it is 1.
    """
    foreground = probabilities[0] >= LIKELY
    middles, count = ndimage.label(foreground & (probabilities[-1] >= LIKELY))
    regions, _ = ndimage.label(foreground)
    has_middle = np.zeros(regions.max() + 1, bool)
    has_middle[regions[middles > 0]] = True
    whole, more = ndimage.label(foreground & ~has_middle[regions])
    markers = np.where(whole > 0, whole + count, middles)
    objects = _watershed(-probabilities.sum(axis=0), markers, foreground)
    areas = np.bincount(objects.ravel(), minlength=count + more + 1)[1:]
    sums = np.bincount(objects.ravel(), probabilities[0].ravel(), count + more + 1)[1:]
    scores = 2 * sums / np.maximum(areas, 1) - 1
    kept = (areas >= max(min_area, 1)) & (scores >= least_score)
    numbers = np.concatenate([[0], np.where(kept, kept.cumsum(), 0)]).astype(np.int32)
    return numbers[objects], scores[kept]


def classes_of_objects(objects: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the class of each object 1..N, int (N,): that of the largest mean over its pixels.

    Args:
        objects: integers (H, W); each of the numbers 1..N is there.
        probabilities: float (classes, H, W): channel c of lying in an object of class c.
    """
    labels = objects.ravel()
    sums = [np.bincount(labels, each.ravel(), labels.max() + 1) for each in probabilities]
    return np.argmax(sums, axis=0)[1:]


def split_objects(foreground: np.ndarray, spacing: Sequence[float], distance: float) -> np.ndarray:
    """Number the objects of a mask, parting those that touch, by the distances of its shape.

    Objects grow around the voxels that are farthest from the background; of two that are nearer to
    each other than ``distance``, around the farther one.

    Args:
        foreground: bool (D, H, W).
        spacing: of the voxels, (z, y, x) in mm.
        distance: least mm between the middles of two objects that touch: about a diameter.

    Returns:
        int32 (D, H, W): 0 is background, the objects are 1, 2, ...

    Example::

        >>> import numpy as np
        >>> foreground = np.zeros((9, 9, 17), bool)
        >>> foreground[:, :, :8] = foreground[2:7, 2:7, 8] = foreground[:, :, 9:] = True
        >>> int(split_objects(foreground, (1, 1, 1), 8).max())
        2
    """
    depth = ndimage.distance_transform_edt(foreground, sampling=spacing)
    components, _ = ndimage.label(foreground)
    markers = np.zeros(foreground.shape, np.int32)
    middles = _deepest(depth, components, spacing, distance)
    markers[tuple(middles.T)] = np.arange(1, len(middles) + 1)
    return _watershed(-depth, markers, foreground)


def _watershed(height: np.ndarray, markers: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    from skimage.segmentation import watershed  # It takes a while.

    return watershed(height, markers, mask=foreground)


def _deepest(
    depth: np.ndarray, components: np.ndarray, spacing: Sequence[float], distance: float
) -> np.ndarray:
    """Return the voxels (N, 3) of greatest depth, at least ``distance`` from those of more depth
    in the same component."""
    is_peak = (depth == ndimage.maximum_filter(depth, 3)) & (components > 0)
    voxels = np.argwhere(is_peak)
    voxels = voxels[np.argsort(-depth[is_peak], kind="stable")]
    places, owners = voxels * np.array(spacing), components[tuple(voxels.T)]
    is_free, kept = np.ones(len(voxels), bool), []
    for index in range(len(voxels)):
        if is_free[index]:
            kept.append(index)
            near = np.linalg.norm(places - places[index], axis=1) < distance
            is_free &= ~(near & (owners == owners[index]))
    return voxels[kept]
