"""Objects of volumes, parted where they touch."""

import numpy as np
import pytest

from unet_sharp_det.masks.watershed import split_objects

SPACING = (2.0, 1.0, 1.0)


def ball(centre, radius, shape=(20, 40, 40)):
    grids = np.ogrid[tuple(slice(n) for n in shape)]
    parts = zip(grids, SPACING, centre, strict=True)
    return sum((grid * side - middle) ** 2 for grid, side, middle in parts) <= radius**2


@pytest.mark.parametrize("axis", range(3))
def test_balls_that_touch_are_parted_at_their_waist(axis):
    middles = np.full((2, 3), 19.0)
    middles[1, axis] += 10
    first, second = (ball(middle, 6) for middle in middles)
    objects = split_objects(first | second, SPACING, 9)
    assert objects.max() == 2
    assert not objects[~(first | second)].any()
    for part in (first & ~second, second & ~first):
        counts = np.bincount(objects[part], minlength=3)
        assert counts[0] == 0
        assert counts.max() > 0.95 * part.sum()
    assert split_objects(first | second, SPACING, 30).max() == 1


def test_what_lies_apart_has_numbers_of_its_own():
    foreground = ball((8, 8, 8), 4) | ball((8, 8, 20), 4)
    assert split_objects(foreground, SPACING, 100).max() == 2
    assert split_objects(np.zeros((3, 4, 5), bool), SPACING, 5).max() == 0
