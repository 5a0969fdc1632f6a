"""The matching of two instance maps, and the measures that are made of it, by hand."""

import itertools

import numpy as np
import pytest
from label_map_files import label_map

from unet_sharp_det.evaluation.instances.measures import INSTANCE_MEASURES
from unet_sharp_det.evaluation.instances.overlap import InstanceOverlap
from unet_sharp_det.evaluation.instances.pixel_counts import boundary_f1
from unet_sharp_det.evaluation.instances.results import InstanceResults
from unet_sharp_det.masks.instance_maps import InstanceMap


def labels_of(boxes, size=(20, 40)):
    return label_map(boxes, int, size=size)


def overlap_of(true, predicted, image_id=1, **options):
    maps = (InstanceMap.from_labels(np.asarray(labels), "x") for labels in (true, predicted))
    return InstanceOverlap.count(*maps, image_id=image_id, **options)


def values_of(*overlaps):
    return InstanceResults(overlaps).metrics["instances"]


def foreground_of(true, predicted):
    return set(InstanceResults([overlap_of(true, predicted)]).metrics["foreground"].values())


def test_pairs_and_areas():
    """Object 1 is split in two, 2 shares a column with the next, 3 is alone."""
    true = labels_of([(0, 0, 10, 4), (12, 0, 16, 4), (30, 0, 32, 2)])
    found = labels_of([(0, 0, 6, 4), (6, 0, 13, 4), (20, 10, 24, 14)])
    overlap = overlap_of(true, found)
    assert overlap.true_areas.tolist() == [40, 16, 4]
    assert overlap.pred_areas.tolist() == [24, 28, 16]
    pairs = list(zip(overlap.true_index, overlap.pred_index, overlap.shared, strict=True))
    assert pairs == [(0, 0, 24), (0, 1, 16), (1, 1, 4)]
    assert overlap.iou.tolist() == [24 / 40, 16 / 52, 4 / 40]
    assert overlap.match(0.5).tolist() == [0]
    assert overlap.match(0.6).tolist() == [0]
    assert overlap.match(0.6, strict=True).tolist() == []
    assert overlap.match(0.1).tolist() == [0, 2]


def best_by_brute_force(iou, threshold, given=()):
    """The largest (number of pairs, sum of IoU) of all assignments that have the given pairs; those
    below the threshold are in the sum alone."""
    rows, columns = iou.shape
    best = (0, 0.0)
    for chosen in itertools.permutations(range(columns + rows), rows):
        if all(chosen[i] == j for i, j in given):
            values = [iou[i, j] for i, j in enumerate(chosen) if j < columns]
            best = max(best, (sum(value >= threshold for value in values), sum(values)))
    return best


@pytest.mark.parametrize("seed", range(12))
def test_low_thresholds_need_an_assignment(seed):
    generator = np.random.default_rng(seed)
    true, found = generator.integers(0, 5, (2, 3, 5))
    overlap = overlap_of(true, found)
    iou = np.zeros((len(overlap.true_areas), len(overlap.pred_areas)))
    iou[overlap.true_index, overlap.pred_index] = overlap.iou
    for threshold in (0.05, 0.1, 0.2, 0.5):
        matched = overlap.match(threshold)
        assert len(set(overlap.true_index[matched])) == len(matched)
        assert len(set(overlap.pred_index[matched])) == len(matched)
        count, total = best_by_brute_force(iou, threshold)
        assert len(matched) == count
        pairs = zip(overlap.true_index[matched], overlap.pred_index[matched], strict=True)
        assert best_by_brute_force(iou, threshold, list(pairs))[1] == pytest.approx(total)


def test_a_tie_among_many_objects_is_solved_alone():
    """Two halves of an object, each of IoU .5, beside 9,998 others."""
    true = np.arange(1, 10_001).reshape(100, 100)
    true[0, 1] = true[0, 0]
    overlap = overlap_of(true, np.arange(1, 10_001).reshape(100, 100))
    assert len(overlap.match(0.5)) == 9_999


def test_measures_by_hand():
    """IoU 1, .6 and .5 in one image, one object missed, one invented."""
    true = labels_of([(0, 0, 10, 2), (0, 4, 10, 6), (0, 8, 10, 10), (20, 0, 30, 2)])
    found = labels_of([(0, 0, 10, 2), (0, 4, 6, 6), (0, 8, 5, 10), (20, 10, 30, 13)])
    values = values_of(overlap_of(true, found))
    at = {0.5: (3, 2), 0.55: (2, 2), 0.6: (2, 1)}  # TP by >= and by >
    per_threshold = [at.get(t, (1, 1)) for t in np.arange(10, 20) / 20]
    assert values["cell_AP50_pooled"] == pytest.approx(100 * 3 / 5)
    assert values["cell_AP60_pooled"] == pytest.approx(100 * 2 / 6)
    mean = np.mean([[tp / (8 - tp) for tp in both] for both in per_threshold], axis=0)
    assert values["cell_AP_image_mean"] == pytest.approx(100 * mean[0])
    assert values["DSB_score"] == pytest.approx(100 * mean[1])
    assert values["PQ_pooled"] == pytest.approx(100 * 1.6 / 4)
    assert values["SQ_pooled"] == pytest.approx(100 * 0.8)
    assert values["RQ_pooled"] == pytest.approx(100 * 2 / 4)
    assert values["matched_IoU_pooled"] == pytest.approx(100 * 2.1 / 3)
    assert values["F1_50_pooled"] == values["recall_50_pooled"] == pytest.approx(75)
    assert values["AJI_pooled"] == pytest.approx(100 * (20 + 12 + 10) / (20 * 4 + 30))
    assert values["count_error"] == values["count_bias"] == 0


def test_an_object_that_serves_twice_in_aji():
    """One predicted object over two true ones: paired with both, as Kumar et al. have it."""
    true = labels_of([(0, 0, 4, 4), (4, 0, 8, 4)])
    values = values_of(overlap_of(true, labels_of([(0, 0, 8, 4)])))
    assert values["AJI_pooled"] == pytest.approx(100 * 32 / 64)
    assert (values["merges"], values["splits"], values["count_bias"]) == (1, 0, -1)
    values = values_of(overlap_of(labels_of([(0, 0, 8, 4)]), true))
    assert (values["merges"], values["splits"], values["count_bias"]) == (0, 1, 1)


def test_empty_images():
    nothing, one = np.zeros((9, 9), int), labels_of([(0, 0, 4, 4)], (9, 9))
    both = values_of(overlap_of(nothing, nothing))
    defined = {name for name, value in both.items() if np.isfinite(value)}
    undefined = {measure.name for measure in INSTANCE_MEASURES} - defined
    assert {both[name] for name in defined} == {0, 100}
    assert foreground_of(nothing, nothing) == {100}
    assert {name.removesuffix("_pooled").removesuffix("_image_mean") for name in undefined} == {
        *("SQ", "matched_IoU", "precision_50", "recall_50"),
    }
    for true, found in ((nothing, one), (one, nothing)):
        values = values_of(overlap_of(true, found))
        assert values["DSB_score"] == values["PQ_pooled"] == values["AJI_pooled"] == 0
        assert values["count_error"] == 1
        assert values["precision_50_image_mean"] == values["recall_50_image_mean"] == 0
        assert values["boundary_F1"] == 0
        assert foreground_of(true, found) == {0}
    perfect = overlap_of(one, one)
    missed = values_of(perfect, overlap_of(one, nothing, image_id=2))
    assert missed["precision_50_image_mean"] == 50
    assert missed["precision_50_pooled"] == 100
    mean = values_of(overlap_of(nothing, nothing), overlap_of(one, nothing, image_id=2))
    assert mean["DSB_score"] == 50
    assert mean["cell_AP_pooled"] == 0


def test_images_and_pools_weigh_differently():
    good = overlap_of(labels_of([(0, 0, 4, 4)]), labels_of([(0, 0, 4, 4)]))
    boxes = [(4 * i, 0, 4 * i + 3, 3) for i in range(9)]
    poor = overlap_of(labels_of(boxes), labels_of(boxes[:1]), image_id=2)
    values = values_of(good, poor)
    assert values["cell_AP50_image_mean"] == pytest.approx(100 * (1 + 1 / 9) / 2)
    assert values["cell_AP50_pooled"] == pytest.approx(100 * 2 / 10)
    assert values["count_error"] == 4


def test_void_pixels_count_for_nothing():
    """Of the predicted objects one lies in the void, one by two thirds, one by half."""
    true = labels_of([(0, 0, 6, 4), (20, 0, 24, 4)])
    found = labels_of([(2, 0, 6, 4), (20, 0, 24, 4), (21, 6, 24, 9), (18, 12, 22, 16)])
    void = np.zeros(true.shape, bool)
    void[:, :2] = void[:, 22:] = void[12:16, 20:] = True
    void[0:4, 20:24] = False
    void[6:9, 22:] = True
    overlap = overlap_of(true, found, void=void)
    assert overlap.true_areas.tolist() == [16, 16]
    assert overlap.pred_areas.tolist() == [16, 16, 8]
    assert overlap.iou.tolist() == [1, 1]
    # What is left of an object may be a true one: that counts, however much of it is void.
    void[:, :6] = True
    true, found = labels_of([(6, 0, 10, 4)]), labels_of([(0, 0, 10, 4)])
    values = values_of(overlap_of(true, found, void=void))
    assert values["PQ_pooled"] == values["recall_50_pooled"] == 100


def test_boundary_tolerance_is_a_distance():
    true, found = np.zeros((2, 9, 9), int)
    true[4, 4], found[7, 6] = 1, 1  # 3 down, 2 to the right: sqrt(13) = 3.606 apart
    near = {t: boundary_f1(found, true, t) for t in (0, 3, 3.6, 3.61, 4)}
    assert near == {0: 0, 3: 0, 3.6: 0, 3.61: 1, 4: 1}
    assert boundary_f1(true, true, 0) == 1
    empty = np.zeros((9, 9), int)
    assert boundary_f1(empty, empty) == 1
    assert boundary_f1(empty, true) == boundary_f1(true, empty) == 0
    full = np.ones((9, 9), int)  # An object that fills the image has no boundary.
    assert boundary_f1(full, full) == 1
    assert boundary_f1(full, empty) == boundary_f1(empty, full) == 0


def test_shifted_cubes_share_what_they_share():
    true, pred = np.zeros((2, 12, 12, 12), int)
    true[2:6, 2:6, 2:6], true[8:10, 8:10, 8:10] = 3, 9
    pred[3:7, 2:6, 2:6] = 1
    maps = [InstanceMap.from_labels(each, "a", dim=3) for each in (true, pred)]
    overlap = InstanceOverlap.count(*maps, image_id=1)
    assert overlap.true_areas.tolist() == [64, 8]
    assert overlap.iou == pytest.approx([48 / 80])
    # Every predicted boundary voxel is near a true one, not so those of the 8 voxels alone.
    recall = 56 / 64
    assert overlap.boundary_f1 == pytest.approx(2 * recall / (1 + recall))
