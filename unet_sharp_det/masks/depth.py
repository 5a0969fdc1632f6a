"""Objects and depth: the map that an instance segmenter learns, and the way back to objects.

The *depth* of a pixel is its distance to the edge of its object, as a share of the largest one in
that object: from above 0 at the edge to 1 in the middle. It falls off between objects that touch,
so that a watershed parts them (Bai & Urtasun, "Deep Watershed Transform", CVPR 2017, Sec. 3). It is
learnt as *bands*, shares of equal width, and channel k says whether a pixel is deeper than k bands.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

#: A pixel belongs to an object, or to its middle, from this probability on.
LIKELY = 0.5


def depth_bands(
    objects: np.ndarray, bands: int, spacing: Sequence[float] | None = None
) -> np.ndarray:
    """Return the band of each pixel: uint8, 0 for the background, 1 at an edge to ``bands``.

    Beyond the image an object goes on: there its depth does not fall off.

    Args:
        objects: integers (H, W), or (D, H, W): 0 is the background, each object has a number.
        bands: 2 to 255.
        spacing: sides of a pixel, in the order of the axes. None: all are 1.

    Example::

        >>> import numpy as np
        >>> depth_bands(np.array([[0, 1, 1, 1, 1, 1, 2, 2, 2, 0]]), bands=3)
        array([[0, 1, 2, 3, 2, 1, 2, 3, 2, 0]], dtype=uint8)
    """
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
        found[window][inside] = np.ceil(distances * bands / distances.max())
    return found


def objects_from_depth(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Part the foreground into objects.

    Each connected region of more than half depth is the middle of an object, from which a
    watershed (scikit-image's) goes up to the edge. Foreground without such a region is an object.

    Args:
        probabilities: float (bands, H, W), or (bands, D, H, W): channel k of being deeper than k
            bands, channel 0 of being foreground.

    Returns:
        int32 (H, W): 0 is background, the objects are 1..N; and the score of each, the mean
        probability of its pixels to be foreground, float (N,).
    """
    is_middle = probabilities[len(probabilities) // 2] >= LIKELY
    return watershed_of(probabilities[0], is_middle, -probabilities.sum(axis=0))


def watershed_of(probability: np.ndarray, is_middle: np.ndarray, height: np.ndarray):
    from skimage.segmentation import watershed  # It takes a while.

    foreground = probability >= LIKELY
    middles, count = ndimage.label(foreground & is_middle)
    regions, _ = ndimage.label(foreground)
    has_middle = np.zeros(regions.max() + 1, bool)
    has_middle[regions[middles > 0]] = True
    is_whole = foreground & ~has_middle[regions]
    whole, more = ndimage.label(is_whole)
    markers = np.where(is_whole, whole + count, middles)
    objects = watershed(height, markers, mask=foreground).astype(np.int32)
    return objects, ndimage.mean(probability, objects, np.arange(1, count + more + 1))
