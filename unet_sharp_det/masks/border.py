"""Objects, their inner pixels and the borders where they touch: the rival of depth."""

import numpy as np
from scipy import ndimage

#: Side in pixels of the square around an inner pixel that is of its object alone.
_SIDE = 5


def border_classes(objects: np.ndarray) -> np.ndarray:
    """Return uint8: 0 background, 1 edge to the background, 2 inner, 3 edge to another object."""
    beyond = np.iinfo(objects.dtype).max
    lowest = ndimage.minimum_filter(np.where(objects == 0, beyond, objects), _SIDE)
    highest = ndimage.maximum_filter(objects, _SIDE)
    is_alone = ndimage.minimum_filter(objects, _SIDE) == highest
    classes = np.where(lowest != highest, 3, np.where(is_alone, 2, 1))
    return np.where(objects > 0, classes, 0).astype(np.uint8)


def objects_from_border(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`objects_from_depth`, of the channels foreground, inner and touching border."""
    from .depth import watershed_of

    foreground, inner, touching = probabilities
    return watershed_of(foreground, (inner >= 0.5) & (touching < 0.5), touching - inner)
