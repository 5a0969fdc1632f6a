import numpy as np
import pytest

from unet_sharp_det.evaluation.evaluators.volumes import VOLUME_MEASURES, VolumeOverlap
from unet_sharp_det.evaluation.instances.results import MeasureTable


def cube(start, side=6, shape=(24, 24, 24)):
    mask = np.zeros(shape, bool)
    mask[start : start + side, 8 : 8 + side, 8 : 8 + side] = True
    return mask


def summary(*pairs, spacing=(2.0, 1.0, 1.0), tolerance=1.0):
    valid = np.ones(pairs[0][0].shape, bool)
    overlaps = [VolumeOverlap.compare(p, t, valid, spacing, tolerance) for p, t in pairs]
    return MeasureTable.of(overlaps, VOLUME_MEASURES).summary()


def test_a_cube_shifted_by_two_slices_of_2_mm():
    found = summary((cube(8), cube(10)))
    assert found["Dice_image_mean"] == pytest.approx(100 * 4 / 6)
    assert found["HD95_image_mean"] == pytest.approx(4)
    assert found["Dice_slice_mean"] == pytest.approx(100 * 4 / 6)
    assert 0 < found["surface_Dice_image_mean"] < 100


def test_equal_within_the_tolerance():
    found = summary((cube(8), cube(9)), tolerance=2.0)
    assert found["surface_Dice_image_mean"] == pytest.approx(100)
    assert summary((cube(8), cube(8)))["HD95_image_mean"] == 0


def test_empty_sets():
    nothing = np.zeros((24, 24, 24), bool)
    found = summary((nothing, cube(8)), (nothing, nothing))
    assert np.isnan(found["HD95_image_mean"])
    assert found["surface_Dice_image_mean"] == pytest.approx(50)
    assert found["Dice_slice_mean"] == 0
