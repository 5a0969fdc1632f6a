"""Counts, ratios and summaries of pixel sets, each worked out by hand or by plain NumPy."""

import math

import numpy as np
import pytest

from unet_sharp_det.evaluation.instances.overlap import (
    DEFINITIONS,
    Overlap,
    define,
    format_metrics,
    summarize,
    summarize_channels,
)

PREDICTED = np.array([[1, 1, 1, 0, 0, 1]], dtype=bool)
TRUTH = np.array([[1, 1, 0, 1, 0, 1]], dtype=bool)
VALID = np.array([[1, 1, 1, 1, 1, 0]], dtype=bool)


def test_counts_of_valid_pixels():
    assert Overlap.count(PREDICTED, TRUTH, VALID) == Overlap(2, 3, 3, 5)
    assert Overlap.count(PREDICTED, TRUTH) == Overlap(3, 4, 4, 6)


def test_ratios_of_foreground_and_background():
    overlap = Overlap.count(PREDICTED, TRUTH, VALID)
    assert overlap.background == Overlap(1, 2, 2, 5)
    assert overlap.ratios == {
        "IoU": pytest.approx(2 / 4),
        "Dice": pytest.approx(4 / 6),
        "IoU_two_class": pytest.approx((2 / 4 + 1 / 3) / 2),
        "Dice_two_class": pytest.approx((4 / 6 + 2 / 4) / 2),
    }


@pytest.mark.parametrize(
    ("overlap", "foreground", "two_class"),
    [
        (Overlap(0, 0, 0, 9), 1.0, 1.0),  # all background, found
        (Overlap(9, 9, 9, 9), 1.0, 1.0),  # all foreground, found: the background is empty
        (Overlap(0, 0, 9, 9), 0.0, 0.0),  # prediction alone
        (Overlap(0, 9, 0, 9), 0.0, 0.0),  # ground truth alone
        (Overlap(0, 0, 0, 0), 1.0, 1.0),  # all ignored
    ],
    ids=["no object", "only object", "no truth", "no prediction", "ignored"],
)
def test_empty_sets(overlap, foreground, two_class):
    ratios = overlap.ratios
    assert ratios["IoU"] == ratios["Dice"] == foreground
    assert ratios["IoU_two_class"] == ratios["Dice_two_class"] == two_class


def test_pooling_adds_pixels_not_ratios():
    images = [Overlap(1, 1, 1, 10), Overlap(0, 0, 90, 100)]
    metrics = summarize(images)
    assert metrics["IoU_image_mean"] == pytest.approx(50)
    assert metrics["IoU_pooled"] == pytest.approx(100 * 1 / 91)
    assert metrics["Dice_pooled"] == pytest.approx(100 * 2 / 92)
    # Backgrounds: 9 of 9, and 10 of 100.
    assert metrics["IoU_two_class_image_mean"] == pytest.approx(100 * (1 + (0 + 0.1) / 2) / 2)
    assert metrics["IoU_two_class_pooled"] == pytest.approx(50 * (1 / 91 + 19 / 109))
    assert metrics["Dice_two_class_pooled"] == pytest.approx(50 * (2 / 92 + 38 / 128))


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
    metrics = summarize([Overlap.count(*image) for image in maps])
    assert list(metrics) == list(DEFINITIONS)
    np.testing.assert_allclose(list(metrics.values()), 100 * np.array(expected), rtol=1e-12)


def test_channels_are_averaged_and_named():
    channels = {"a": [Overlap(1, 1, 1, 4)], "b": [Overlap(1, 2, 1, 4)]}
    metrics = summarize_channels(channels)
    assert list(metrics)[:8] == list(DEFINITIONS)
    assert len(metrics) == 3 * 8
    assert metrics["IoU_pooled/a"] == 100
    assert metrics["IoU_pooled/b"] == 50
    assert metrics["IoU_pooled"] == 75
    assert summarize_channels({"a": channels["a"]}) == summarize(channels["a"])


def test_definitions_tell_channels():
    definitions = define(["IoU_pooled", "IoU_pooled/a"])
    assert definitions["IoU_pooled"] == "mean over the channels: " + DEFINITIONS["IoU_pooled"]
    assert definitions["IoU_pooled/a"] == "channel a: " + DEFINITIONS["IoU_pooled"]
    assert define(["Dice_pooled"]) == {"Dice_pooled": DEFINITIONS["Dice_pooled"]}
    assert format_metrics({"Dice_pooled": 12.345}).startswith("Dice_pooled 12.35: 2 |P & G|")


def test_definitions_hold_the_convention_and_no_name_has_a_hyphen():
    for name, definition in DEFINITIONS.items():
        assert "-" not in name
        assert definition.endswith("100 where both sets are empty, 0 where only one is")


def test_no_image_is_nan():
    assert all(math.isnan(value) for value in summarize([]).values())
