"""Objects by a watershed: of bands of distance, as a model sees them, and of a volume's shape."""

import numpy as np
import pytest

from unet_sharp_det.masks.watershed import BAND, distance_bands, objects_of_bands, split_objects

BANDS = 3
SPACING = (2.0, 1.0, 1.0)


def balls(shape, centres, radius, spacing=None):
    """A label map of balls; of those that overlap, each has what is nearer to its centre."""
    sides = spacing or [1] * len(shape)
    grids = np.ogrid[tuple(slice(n) for n in shape)]
    distances = np.stack(
        [
            sum(((g - c) * side) ** 2 for g, side, c in zip(grids, sides, centre, strict=True))
            for centre in centres
        ]
    )
    return np.where(distances.min(0) <= radius**2, distances.argmin(0) + 1, 0)


def certain(bands):
    """The probabilities of a model that is sure and right."""
    return np.stack([(bands > band).astype(np.float32) for band in range(BANDS)])


TOUCHING = [
    balls((40, 60), [(20, 15), (20, 32), (12, 48)], 9),
    balls((14, 30, 50), [(7, 15, 12), (7, 15, 30)], 10, spacing=SPACING),
]


class TestBands:
    def test_they_rise_from_both_ends_of_a_line(self):
        line = np.array([0, 1, 1, 1, 1, 1, 2, 2, 2, 0, 3, 0, 4, 4])
        assert distance_bands(line, 3).tolist() == [0, 1, 1, 2, 1, 1, 1, 1, 1, 0, 1, 0, 1, 1]
        long = np.array([0] + [1] * 15)
        assert distance_bands(long, 4).tolist() == [0, 1, 1, 2, 2, 3, 3, *[4] * 9]

    def test_on_a_disk_they_are_rings(self):
        """From d off the middle of a disk of radius r, the first pixel outside is r - d away, and
        less than a pixel more."""
        disk = balls((61, 61), [(30, 30)], 25)
        y, x = np.nonzero(disk)
        bands, expected = distance_bands(disk, 100)[y, x], 25 - np.hypot(y - 30, x - 30)
        assert (bands >= expected / BAND).all()
        assert (bands < (expected + 1.1) / BAND + 1).all()

    def test_an_object_goes_on_beyond_the_image(self):
        disk = balls((61, 61), [(30, 30)], 25)
        assert (distance_bands(disk[30:], 9) == distance_bands(disk, 9)[30:]).mean() > 0.99
        assert (distance_bands(np.ones((5, 7), int), BANDS) == BANDS).all()

    def test_each_side_of_a_voxel_has_its_length(self):
        box = np.zeros((7, 15, 15), int)
        box[1:6, 1:14, 1:14] = 1
        flat = distance_bands(box, 9, spacing=(4, 1, 1))
        assert flat[3, 7, 1:8].tolist() == [1, 1, 2, 2, 3, 3, 4]
        assert flat[1, 7, 7] == 2  # four of the shorter sides to the edge
        assert (distance_bands(box, 9, spacing=(8, 2, 2)) == flat).all()


class TestObjects:
    @pytest.mark.parametrize("truth", TOUCHING, ids=["2D", "3D"])
    def test_those_that_touch_come_back(self, truth):
        spacing = None if truth.ndim == 2 else SPACING
        found, scores = objects_of_bands(certain(distance_bands(truth, BANDS, spacing)))
        assert len(scores) == truth.max() == found.max()
        assert ((found > 0) == (truth > 0)).all()
        for number in range(1, truth.max() + 1):
            counts = np.bincount(found[truth == number])
            assert counts.max() > 0.97 * counts.sum()
        assert (scores == 1).all()

    def test_foreground_without_a_middle_is_an_object_of_the_score_of_its_pixels(self):
        probabilities = np.zeros((BANDS, 10, 20), np.float32)
        probabilities[0, 2:5, 2:5] = 0.6
        probabilities[0, 2:5, 10:14] = 0.9
        probabilities[2, 3, 11] = 0.8
        probabilities[2, 8, 8] = 0.8  # a middle where there is no object
        found, scores = objects_of_bands(probabilities)
        by_area = {int((found == k).sum()): score for k, score in enumerate(scores, 1)}
        assert by_area == pytest.approx({9: 0.2, 12: 0.8})
        for limits in ({"min_area": 10}, {"least_score": 0.5}):
            found, scores = objects_of_bands(probabilities, **limits)
            assert scores == pytest.approx([0.8])
            assert (found == 1).sum() == (found > 0).sum() == 12

    @pytest.mark.parametrize("shape", [(5, 5), (3, 4, 5)])
    def test_where_there_is_nothing(self, shape):
        found, scores = objects_of_bands(np.zeros((BANDS, *shape)))
        assert (found.shape, found.max(), len(scores)) == (shape, 0, 0)


class TestVolumes:
    @pytest.mark.parametrize("axis", range(3))
    def test_balls_that_touch_are_parted_at_their_waist(self, axis):
        middles = np.full((2, 3), 19.0)
        middles[1, axis] += 10
        first, second = (
            balls((20, 40, 40), [middle / SPACING], 6, SPACING) > 0 for middle in middles
        )
        objects = split_objects(first | second, SPACING, 9)
        assert objects.max() == 2
        assert not objects[~(first | second)].any()
        for part in (first & ~second, second & ~first):
            counts = np.bincount(objects[part], minlength=3)
            assert counts[0] == 0
            assert counts.max() > 0.95 * part.sum()
        assert split_objects(first | second, SPACING, 30).max() == 1

    def test_what_lies_apart_has_numbers_of_its_own(self):
        foreground = balls((20, 40, 40), [(4, 8, 8), (4, 8, 20)], 4, SPACING) > 0
        assert split_objects(foreground, SPACING, 100).max() == 2
        assert split_objects(np.zeros((3, 4, 5), bool), SPACING, 5).max() == 0
