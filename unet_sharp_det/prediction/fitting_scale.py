"""The scale at which the objects of an image have sizes that a model knows.

Cellpose has a network that estimates the diameter of objects (Stringer et al., Nature Methods 18,
2021). Here the model itself does: it looks at the image from coarse to fine, until two looks agree.
"""

import math
from collections.abc import Callable

import numpy as np

from ..masks.instances import SparseInstances

#: Median of the objects of DSB2018, in pixels.
DSB2018_DIAMETER = 20.0

#: Scales of the looks. All but the last together cost a third of what the last one costs.
_LOOKS = (1 / 8, 1 / 4, 1 / 2, 1.0)
#: Two diameters agree up to this ratio.
_AGREEMENT = 1.2
#: Times the diameter of the training's objects that a median may have, and the scales that else
#: bring it there. Tiles of windows at these scales begin where the network's strides do.
_KNOWN = (0.5, 2.0)
_SCALES = (1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1.0, 3 / 2, 2.0, 3.0, 4.0)


def find_at_fitting_scale(
    look: Callable[[float, float], SparseInstances],
    diameter: float,
    score: float,
    known: float | None = None,
) -> tuple[SparseInstances, float, float]:
    """Find the objects of an image at the scale that fits them.

    Args:
        look: finds the objects, in the image's pixels, at a scale and for a share of the progress.
        diameter: median of the training's objects, in pixels.
        score: least of the objects that are measured.
        known: median diameter of the image's objects, in pixels. None: it is measured.

    Returns:
        the objects; the scale; and the median diameter by which it was chosen, in pixels, 0 without
        objects.

    Example::

        found, scale, _ = find_at_fitting_scale(look, 20, 0.5)    # .375 for 100 pixels
    """
    looks, left, before, median = {}, 1.0, 0.0, known or 0.0
    for each in () if known else _LOOKS:
        share = each**2 / 2  # as its cost, and a third stays for a look at another scale
        looks[each], left = look(each, share), left - share
        before, median = median, _median_diameter(looks[each].at_least(score))
        if before and median and max(before / median, median / before) < _AGREEMENT:
            break
    scale = fitting_scale(median, diameter)
    return looks[scale] if scale in looks else look(scale, left), scale, median


def fitting_scale(median: float, diameter: float) -> float:
    """Return the scale nearest to 1 that brings a median diameter to those that a model knows, or
    as near to them as scales do; 1 without objects."""
    if not median:
        return 1.0
    least, most = (factor * diameter for factor in _KNOWN)

    def misfit(scale: float) -> tuple[float, float]:
        seen = scale * median
        return max(least / seen, seen / most, 1.0), abs(math.log(scale))

    return min(_SCALES, key=misfit)


def _median_diameter(found: SparseInstances) -> float:
    return 2 * math.sqrt(float(np.median(found.areas)) / math.pi) if len(found) else 0.0
