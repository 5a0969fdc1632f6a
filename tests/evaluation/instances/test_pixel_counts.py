"""Counts of pixel sets, and their ratios, by hand."""

import numpy as np
import pytest

from unet_sharp_det.evaluation.instances.measures import FOREGROUND_MEASURES
from unet_sharp_det.evaluation.instances.pixel_counts import PixelCounts
from unet_sharp_det.evaluation.instances.results import MeasureTable

PREDICTED = np.array([[1, 1, 1, 0, 0, 1]], dtype=bool)
TRUTH = np.array([[1, 1, 0, 1, 0, 1]], dtype=bool)
VALID = np.array([[1, 1, 1, 1, 1, 0]], dtype=bool)


def summarize(images):
    return MeasureTable.of(images, FOREGROUND_MEASURES).summary()


def test_ratios_of_foreground_and_background():
    counts = PixelCounts.count(PREDICTED, TRUTH, VALID)
    assert counts.background == PixelCounts(1, 2, 2, 5)
    ratios = {
        "IoU": pytest.approx(100 * 2 / 4),
        "Dice": pytest.approx(100 * 4 / 6),
        "IoU_two_class": pytest.approx(50 * (2 / 4 + 1 / 3)),
        "Dice_two_class": pytest.approx(50 * (4 / 6 + 2 / 4)),
    }
    for ending in ("image_mean", "pooled"):
        assert {name: summarize([counts])[f"{name}_{ending}"] for name in ratios} == ratios


@pytest.mark.parametrize(
    ("counts", "foreground", "two_class"),
    [
        (PixelCounts(0, 0, 0, 9), 1.0, 1.0),  # all background, found
        (PixelCounts(9, 9, 9, 9), 1.0, 1.0),  # all foreground, found: the background is empty
        (PixelCounts(0, 0, 9, 9), 0.0, 0.0),  # prediction alone
        (PixelCounts(0, 9, 0, 9), 0.0, 0.0),  # ground truth alone
        (PixelCounts(0, 0, 0, 0), 1.0, 1.0),  # all ignored
    ],
    ids=["no object", "only object", "no truth", "no prediction", "ignored"],
)
def test_empty_sets(counts, foreground, two_class):
    for name, value in summarize([counts]).items():
        assert value == 100 * (two_class if "two_class" in name else foreground), name
