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


def test_ratios():
    counts = PixelCounts.count(PREDICTED, TRUTH, VALID)
    ratios = {
        "IoU": pytest.approx(100 * 2 / 4),
        "Dice": pytest.approx(100 * 4 / 6),
    }
    for ending in ("image_mean", "pooled"):
        assert {name: summarize([counts])[f"{name}_{ending}"] for name in ratios} == ratios


@pytest.mark.parametrize(
    ("counts", "expected"),
    [(PixelCounts(0, 0, 0), 100), (PixelCounts(0, 0, 9), 0), (PixelCounts(0, 9, 0), 0)],
    ids=["no object", "no truth", "no prediction"],
)
def test_empty_sets(counts, expected):
    assert set(summarize([counts]).values()) == {expected}
