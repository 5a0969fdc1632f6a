"""Depth of pixels in their objects, and the objects that a watershed makes of it."""

import numpy as np
import pytest

from unet_sharp_det.masks.depth import depth_bands, objects_from_depth

BANDS = 4


def balls(shape, centres, radius, spacing=None):
    """A label map of balls; of those that overlap, each has what is nearer to its centre."""
    sides = spacing or [1] * len(shape)
    grids = np.ogrid[tuple(slice(n) for n in shape)]
    distances = np.stack(
        [
            sum((g * side - c * side) ** 2 for g, side, c in zip(grids, sides, centre, strict=True))
            for centre in centres
        ]
    )
    return np.where(distances.min(0) <= radius**2, distances.argmin(0) + 1, 0)


def certain(bands):
    """The probabilities of a model that is sure and right."""
    return np.stack([(bands > band).astype(np.float32) for band in range(BANDS)])


TOUCHING = [
    balls((40, 60), [(20, 15), (20, 32), (12, 48)], 9),
    balls((14, 30, 40), [(7, 15, 12), (7, 15, 24)], 7, spacing=(2, 1, 1)),
]


def test_depth_falls_off_to_the_edges_of_a_line():
    line = np.array([0, 1, 1, 1, 1, 1, 2, 2, 2, 0, 3, 0, 4, 4])
    assert depth_bands(line, 3).tolist() == [0, 1, 2, 3, 2, 1, 2, 3, 2, 0, 3, 0, 2, 3]


def test_depth_of_a_disk_is_its_radius():
    """At distance d from the middle of a disk of radius r it is 1 - d / r, but for a pixel."""
    disk = balls((61, 61), [(30, 30)], 25)
    bands = depth_bands(disk, BANDS)
    y, x = np.nonzero(disk)
    depth = 1 - np.hypot(y - 30, x - 30) / 26
    found = bands[y, x] / BANDS
    assert (found >= depth - 0.05).all()
    assert (found <= depth + 1 / BANDS + 0.05).all()


def test_an_object_goes_on_beyond_the_image():
    """A half disk at the image's side is half of the disk's depth, as a tile sees it."""
    disk = balls((61, 61), [(30, 30)], 25)
    assert (depth_bands(disk[30:], BANDS) == depth_bands(disk, BANDS)[30:]).mean() > 0.999
    assert (depth_bands(np.ones((5, 7), int), BANDS) == BANDS).all()


def test_each_side_of_a_voxel_has_its_length():
    box = np.zeros((5, 13, 13), int)
    box[1:4, 1:12, 1:12] = 1
    flat = depth_bands(box, BANDS, spacing=(4, 1, 1))
    assert flat[2, 6, 6] == BANDS
    assert flat[2, 6, 1] == 1
    assert depth_bands(box, BANDS)[2, 6, 2] == BANDS  # of cubes, two from the edge is the middle


@pytest.mark.parametrize("objects", TOUCHING, ids=["2D", "3D"])
def test_objects_that_touch_come_back(objects):
    found, scores = objects_from_depth(certain(depth_bands(objects, BANDS)))
    assert len(scores) == objects.max() == found.max()
    assert ((found > 0) == (objects > 0)).all()
    for number in range(1, objects.max() + 1):
        counts = np.bincount(found[objects == number])
        assert counts.max() > 0.97 * counts.sum()
    assert (scores == 1).all()


def test_foreground_without_a_middle_is_an_object_of_the_score_of_its_pixels():
    probabilities = np.zeros((BANDS, 10, 20), np.float32)
    probabilities[0, 2:5, 2:5] = 0.6
    probabilities[0, 2:5, 10:14] = 0.9
    probabilities[2, 3, 11] = 0.8
    probabilities[2, 8, 8] = 0.8  # a middle where there is no object
    found, scores = objects_from_depth(probabilities)
    assert {(found == k).sum() for k in (1, 2)} == {9, 12}
    by_area = {int((found == k).sum()): score for k, score in enumerate(scores, 1)}
    assert by_area == pytest.approx({9: 0.6, 12: 0.9})
    nothing, none = objects_from_depth(np.zeros((BANDS, 5, 5)))
    assert (nothing.max(), len(none)) == (0, 0)
