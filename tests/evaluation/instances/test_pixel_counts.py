"""Counts of pixel sets, and their ratios and summaries, by hand or by plain NumPy."""

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


def ratios_of_labels(predicted, truth):
    """IoU and Dice of two flat bool arrays, from sets of indices."""
    p, g = set(np.flatnonzero(predicted)), set(np.flatnonzero(truth))
    if not p and not g:
        return np.ones(2)
    return np.array([len(p & g) / len(p | g), 2 * len(p & g) / (len(p) + len(g))])


def test_random_maps():
    generator = np.random.default_rng(1)
    maps = [generator.random((3, 7, 5)) < share for share in (0.1, 0.5, 0.9, 0.6)]
    foreground, background = [], []
    for predicted, truth, valid in maps:
        p, g = predicted[valid], truth[valid]
        foreground.append(ratios_of_labels(p, g))
        background.append(ratios_of_labels(~p, ~g))
    p, g = (np.concatenate([image[i][image[2]] for image in maps]) for i in (0, 1))
    pooled, pooled_background = ratios_of_labels(p, g), ratios_of_labels(~p, ~g)
    expected = [
        *np.mean(foreground, axis=0),
        *pooled,
        *(np.mean(foreground, axis=0) + np.mean(background, axis=0)) / 2,
        *(pooled + pooled_background) / 2,
    ]
    metrics = summarize([PixelCounts.count(*image) for image in maps])
    assert list(metrics) == [measure.name for measure in FOREGROUND_MEASURES]
    np.testing.assert_allclose(list(metrics.values()), 100 * np.array(expected), rtol=1e-12)
