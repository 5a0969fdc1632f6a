"""The sentence that a report begins with, from differences that are known."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from unet_sharp_det.evaluation.instances.measures import INSTANCE_MEASURES
from unet_sharp_det.report.breakdown import Breakdown, Group
from unet_sharp_det.report.comparison import Row
from unet_sharp_det.report.estimates import Estimate, Estimates
from unet_sharp_det.report.names import words_of
from unet_sharp_det.report.verdict import judge

MEASURES = {measure.name: measure for measure in INSTANCE_MEASURES}
BASE = Estimate(50, 48, 52)


def compare(*differences, images=100, labels="ABCDEFG", shares=(80, 90)):
    """A comparison by differences to the first method (value, low, high)."""
    estimates = [BASE, *(Estimate(BASE.value + value, 0, 100) for value, *_ in differences)]
    rows = {"DSB_score": Row(MEASURES["DSB_score"], estimates, [Estimate(*d) for d in differences])}
    for name, share in zip(("recall", "precision"), shares, strict=True):
        key = f"{name}_50_pooled"
        rows[key] = Row(MEASURES[key], [Estimate(share)], [])
    methods = [SimpleNamespace(label=label, images=range(images)) for label in labels]
    return SimpleNamespace(rows=rows, methods=methods[: len(estimates)])


def group(name, *recalls, spread=0.5, images=30):
    """A group with the recall of each method, in samples."""
    spread = np.linspace(-spread, spread, 41)
    each = [
        Estimates({"recall": value}, {"recall": value + spread * k})
        for k, value in enumerate(recalls, start=1)
    ]
    return Group(name, "", 1, images, each)


def say(comparison, *breakdowns):
    verdict = judge(comparison, breakdowns, "DSB_score")
    text = [re.sub("</?b>", "", str(each)) for each in verdict.sentences]
    return text, verdict


def test_a_difference_whose_interval_leaves_out_zero():
    (text,), verdict = say(compare((3.1, 1.2, 5.0)))
    assert text == "B is better than A: DSB score +3.1 (1.2 to 5.0)."
    assert (verdict.best, verdict.caution) == (1, "")
    (text,), verdict = say(compare((-3.1, -5.0, -1.2)))
    assert text == "A is better than B: DSB score +3.1 (1.2 to 5.0)."
    assert verdict.best == 0


def test_no_difference_can_be_seen():
    touching = Breakdown("", [group("touching objects", 50, 90)], group("all", 50, 60))
    (text,), _ = say(compare((0.4, -1.1, 1.9)), touching)
    assert text == "No difference can be seen between B and A: DSB score +0.4 (−1.1 to 1.9)."


@pytest.mark.parametrize(
    ("touching", "other", "most"),
    [
        ((50, 58), (50, 52), ", most in touching objects (8.0 points more are found)"),
        ((50, 52), (50, 59), ", most in lone objects (9.0 points more are found)"),
        ((50, 57), (50, 56), ", most in touching objects (7.0 points more are found)"),
        ((50, 56), (50, 57), ", most in lone objects (7.0 points more are found)"),
        ((50, 54.2), (50, 53.8), ""),  # Not more than all objects.
        ((50, 47), (50, 49), ""),  # No gain at all.
    ],
)
def test_the_group_that_gains_more_than_all_is_named(touching, other, most):
    groups = [group("touching objects", *touching), group("lone objects", *other)]
    whole = 54 if touching[1] > 50 else 40
    breakdown = Breakdown("", groups, group("all objects", 50, whole, spread=-0.5))
    (text,), _ = say(compare((3.1, 1.2, 5.0)), breakdown)
    assert text == f"B is better than A: DSB score +3.1 (1.2 to 5.0){most}."


def test_a_group_that_loses_is_named_too():
    groups = [group("lone objects", 50, 59), group("touching objects", 50, 47)]
    (text,), _ = say(compare((3.1, 1.2, 5.0)), Breakdown("", groups, group("all", 50, 54)))
    assert text.endswith(
        ", most in lone objects (9.0 points more are found), but worse in touching objects "
        "(3.0 points fewer)."
    )


def test_a_group_of_few_images_is_not_named():
    few = Breakdown("", [group("rare images", 50, 90, images=29)], group("all objects", 50, 60))
    (text,), _ = say(compare((3.1, 1.2, 5.0)), few)
    assert text == "B is better than A: DSB score +3.1 (1.2 to 5.0)."


def test_several_methods_are_compared_with_the_first():
    text, verdict = say(compare((-2, -3, -1), (1, -1, 3), (4, 3, 5)))
    assert [each[:30] for each in text] == [
        "D is better than A: DSB score ",
        "No difference can be seen betw",
        "A is better than B: DSB score ",
    ]
    assert verdict.best == 3


def test_a_single_method_and_few_images():
    breakdown = Breakdown("", [group("smallest objects", 30)], group("all objects", 70))
    text, verdict = say(compare(images=29), breakdown)
    assert text == [
        "A has a DSB score of 50.0 (48.0 to 52.0).",
        "It finds 80 % of the true objects, and 90 % of what it finds is true; it is weakest in "
        "smallest objects.",
    ]
    assert verdict.caution == "Only 29 images were judged: too few to rely on."


def test_one_image_tells_nothing():
    (text,), verdict = say(compare((3.1, np.nan, np.nan), images=1))
    assert text == "B and A cannot be told apart by one image: DSB score +3.1."
    assert verdict.caution.startswith("Only 1 image was judged")


def test_labels_are_no_html():
    comparison = compare((3.1, 1.2, 5.0), labels=["<i>A</i>", "B"])
    (sentence,) = judge(comparison, [], "DSB_score").sentences
    assert "&lt;i&gt;A" in sentence


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("PQ_image_mean", "Panoptic quality, mean over images"),
        ("segm/AP", "Mask AP (COCO)"),
        ("segm/AP75", "Mask AP at IoU .75 (COCO)"),
        ("bbox/APs", "Box AP of small objects (COCO)"),
        ("cell_AP85_pooled", "Cell AP at IoU .85, all objects together"),
        ("Dice_image_mean/liver", "Dice of the foreground, mean over images: liver"),
    ],
)
def test_names_in_words(name, words):
    assert words_of(name) == words


def test_every_measure_has_words():
    assert [name for name in MEASURES if "_" in words_of(name)] == []
