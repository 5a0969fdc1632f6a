"""Which colour each object has, and where it is drawn."""

import base64

import cv2
import numpy as np
from label_map_files import label_map

from unet_sharp_det.evaluation.instances.measures import counts, merges, splits
from unet_sharp_det.evaluation.instances.overlap import InstanceOverlap
from unet_sharp_det.masks.instance_maps import InstanceMap
from unet_sharp_det.report import overlays
from unet_sharp_det.report.drawing import data_uri
from unet_sharp_det.report.overlays import OUTCOME_COLORS, outcome_picture, outcomes_of

SIZE = (20, 60)


def instance_map(*boxes, size=SIZE):
    """Objects x0, y0, x1, y1 in their order."""
    return InstanceMap.from_labels(label_map(boxes, size=size), "x")


# From left to right: found, missed, two merged (one of them matched), split (not matched).
TRUE = instance_map(
    (2, 2, 8, 12), (12, 2, 16, 6), (20, 2, 26, 12), (26, 2, 30, 12), (34, 2, 44, 12)
)
PREDICTED = instance_map(
    (2, 2, 8, 11), (50, 2, 56, 12), (20, 2, 30, 12), (34, 2, 39, 11), (39, 2, 44, 11)
)


def overlap_of(true=TRUE, predicted=PREDICTED, void=None):
    return InstanceOverlap.count(true, predicted, image_id=1, void=void)


def test_classes():
    overlap = overlap_of()
    true, predicted = outcomes_of(overlap)
    assert list(true) == ["TP", "FN", "TP", "FN", "split"]
    assert list(predicted) == ["TP", "FP", "merge", "FP", "FP"]
    assert counts(overlap, 0.5) == (2, 3, 3)


def test_merges_and_splits_are_those_of_the_measures(reports):
    for run in reports:
        for overlap in run.results.overlaps:
            true, predicted = outcomes_of(overlap)
            assert (predicted == "merge").sum() == merges(overlap)[0]
            assert (true == "split").sum() == splits(overlap)[0]
    assert sum(merges(overlap)[0] for overlap in reports[0].results.overlaps) > 5


def test_an_image_without_objects():
    nothing = instance_map()
    picture = outcome_picture(None, nothing, nothing, overlap_of(nothing, nothing))
    assert picture.shape == (300, 900, 3)
    assert np.ptp(picture) == 0


def drawn_classes(picture, scale, box):
    """The colours of contours in the enlarged box of an object."""
    x0, y0, x1, y1 = (scale * side for side in box)
    colors = {tuple(color) for color in picture[y0:y1, x0:x1].reshape(-1, 3)}
    return {name for name, color in OUTCOME_COLORS.items() if color in colors}


def test_picture_is_enlarged_and_has_the_colours(monkeypatch):
    monkeypatch.setattr(overlays, "_LONGEST_SIDE", 250)
    image = np.full((*SIZE, 3), 70, np.uint8)
    picture = outcome_picture(image, TRUE, PREDICTED, overlap_of())
    assert picture.shape == (80, 240, 3)
    boxes = {
        (0, 0, 10, 20): {"TP"},
        (11, 0, 18, 20): {"FN"},
        (19, 0, 31, 20): {"merge", "FN"},  # the true object that the match leaves
        (33, 0, 46, 20): {"split", "FP"},
        (48, 0, 60, 20): {"FP"},
    }
    assert {box: drawn_classes(picture, 4, box) for box in boxes} == boxes
    assert (picture[70:] == picture[70, 0]).all()


def test_a_large_image_is_reduced(monkeypatch):
    monkeypatch.setattr(overlays, "_LONGEST_SIDE", 250)
    true = instance_map((100, 100, 400, 500), size=(600, 1000))
    image = np.random.default_rng(0).integers(0, 255, (600, 1000, 3), np.uint8)
    picture = outcome_picture(image, true, true, overlap_of(true, true))
    assert picture.shape == (150, 250, 3)
    edge = (picture == OUTCOME_COLORS["TP"]).all(axis=2)
    assert edge[25:125, 25:27].all()
    assert not edge[:, :25].any()


def test_void_pixels_are_gray_and_their_objects_not_drawn(monkeypatch):
    monkeypatch.setattr(overlays, "_LONGEST_SIDE", 60)
    void = np.zeros(SIZE, bool)
    void[:, 46:] = True
    overlap = overlap_of(void=void)
    image = np.zeros((*SIZE, 3), np.uint8)
    picture = outcome_picture(image, TRUE, PREDICTED, overlap, void=void)
    assert (picture[:, 46:] == 96).all()
    assert not (picture[:, 45] == 96).any()


def test_data_uri():
    picture = np.zeros((30, 50, 3), np.uint8)
    picture[:, :25] = (200, 0, 0)
    kind, content = data_uri(picture).split(",")
    assert kind == "data:image/webp;base64"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded[:, :20, ::-1].astype(int) - picture[:, :20]).max() < 10
