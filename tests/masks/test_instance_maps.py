"""Instance maps: decoded as pycocotools does, painted by score, numbered anew."""

import numpy as np
import pytest
from evaluation_helpers import encode, rectangle_mask
from object_shares import sparse

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.masks.instance_maps import InstanceMap, touches_another

SIZE = (6, 8)


def boxes(*corners):
    return np.array([rectangle_mask(*SIZE, box) for box in corners])


def paint(masks, scores, **options):
    """Both ways, which must agree."""
    painted = InstanceMap.from_objects(sparse(masks, scores), "x", **options)
    decoded = InstanceMap.from_segmentations(
        [encode(mask) for mask in masks], SIZE, "x", scores, **options
    )
    np.testing.assert_array_equal(painted.labels, decoded.labels)
    np.testing.assert_array_equal(painted.scores, decoded.scores)
    return painted


def test_the_higher_score_has_the_pixels():
    masks = boxes((0, 0, 4, 4), (2, 0, 6, 4), (3, 0, 5, 6))
    found = paint(masks, [0.5, 0.9, 0.7])
    assert found.scores.tolist() == [0.9, 0.7, 0.5]
    assert found.areas.tolist() == [16, 4, 8]
    assert (found.labels[masks[1]] == 1).all()
    assert (found.labels[masks[0] & ~masks[1]] == 3).all()


def test_of_equal_scores_the_first_has_the_pixels_of_truth_the_last():
    masks = boxes((0, 0, 4, 4), (2, 0, 6, 4))
    assert paint(masks, [0.5, 0.5]).labels[0].tolist() == [1, 1, 1, 1, 2, 2, 0, 0]
    truth = InstanceMap.from_segmentations([encode(mask) for mask in masks], SIZE, "x")
    assert truth.areas.tolist() == [16, 8]
    assert truth.scores.tolist() == [1, 1]


def test_threshold_area_and_hidden_objects():
    masks = boxes((0, 0, 4, 4), (1, 1, 3, 3), (5, 0, 6, 3), (6, 4, 8, 6))
    scores = [0.9, 0.8, 0.5, 0.3]
    assert paint(masks, scores).scores.tolist() == [0.9, 0.5, 0.3]
    assert paint(masks, scores, score_threshold=0.5).scores.tolist() == [0.9, 0.5]
    assert paint(masks, scores, min_area=4).scores.tolist() == [0.9, 0.3]
    small = paint(masks, scores, score_threshold=0.6, min_area=17)
    assert (len(small), small.labels.max()) == (0, 0)
    assert len(paint(np.zeros((0, *SIZE), bool), [])) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_must_be_numbers(bad):
    with pytest.raises(DatasetError, match="^x: the score of mask 1 is (nan|inf)"):
        paint(boxes((0, 0, 1, 1), (2, 2, 3, 3)), [0.5, bad])


def test_any_numbering_of_a_label_map():
    labels = np.zeros(SIZE, np.uint16)
    labels[0, :3], labels[2, 2:5], labels[4, 0], labels[4, 7] = 7, 300, 9, 9
    found = InstanceMap.from_labels(labels, "x")
    assert found.areas.tolist() == [3, 2, 3]
    assert found.labels[4].tolist() == [2, 0, 0, 0, 0, 0, 0, 2]
    huge = InstanceMap.from_labels(labels.astype(np.int64) * 10**9, "x")
    np.testing.assert_array_equal(found.labels, huge.labels)
    np.testing.assert_array_equal(found.labels, InstanceMap.from_labels(labels / 1.0, "x").labels)
    assert InstanceMap.from_labels(labels, "x", min_area=3).areas.tolist() == [3, 3]
    assert len(InstanceMap.from_labels(np.full((2, 2), 10**9), "x")) == 1


def test_a_bool_map_is_one_object():
    found = InstanceMap.from_labels(boxes((0, 0, 3, 3))[0], "x")
    assert (found.areas.tolist(), found.labels.dtype) == ([9], np.int32)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((4, 4, 3)), r"must be \(height, width\).*\(4, 4, 3\)"),
        (np.full((4, 4), 0.5), "must be whole numbers"),
        (np.full((4, 4), np.nan), "must be whole numbers"),
        (np.full((4, 4), -3), "the label -3 is negative.*32 bits"),
        (np.ones((4, 4), complex), "complex128. must be whole numbers"),
        (np.full((4, 4), "1"), "must be whole numbers"),
        (np.zeros((4, 4), "datetime64[s]"), "must be whole numbers"),
        (np.zeros((4, 4), [("a", int)]), "must be whole numbers"),
        (np.zeros((0, 4), int), r"has no pixel, its shape is \(0, 4\)"),
    ],
)
def test_what_is_no_label_map(labels, message):
    with pytest.raises(DatasetError, match=f"a.tif: .*{message}"):
        InstanceMap.from_labels(labels, "a.tif")


@pytest.mark.parametrize("gap", [0, 1])
@pytest.mark.parametrize("between", [0, 1, 2])
def test_objects_touch_across_a_gap(gap, between):
    labels, start = np.zeros((12, 12), np.int32), 3 + between
    labels[:3, :3], labels[start : start + 3, start : start + 3], labels[:2, 10:] = 1, 2, 3
    expected = [between <= gap, between <= gap, False]
    assert touches_another(labels, gap).tolist() == expected
    assert touches_another(np.stack([labels] * 2), gap).tolist() == expected
    assert touches_another(np.zeros((4, 4), np.int32)).tolist() == []
