"""Sparse instances against dense masks and pycocotools."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
from object_shares import sparse
from scipy import ndimage

from unet_sharp_det.masks.instances import SparseInstances


def random_masks(seed):
    """Up to 12 masks of rectangles with holes, some of them empty, and their scores with ties."""
    random = np.random.default_rng(seed)
    height, width = random.integers(5, 40, 2)
    masks = np.zeros((random.integers(0, 13), height, width), bool)
    for mask in masks:
        top, left = random.integers(0, height), random.integers(0, width)
        bottom, right = random.integers(1, 15, 2) + (top, left)
        mask[top:bottom, left:right] = random.random() < 0.9
        mask &= random.random(mask.shape) < 0.9
    return masks, random.integers(0, 4, len(masks)) / 4


def paint_pixels(masks, scores, min_area, max_covered):
    """Label map and scores, pixel by pixel of the whole image."""
    order = np.argsort(-scores, kind="stable")
    labels, number, kept = np.zeros(masks.shape[1:], np.int32), 0, []
    for index in order:
        visible = masks[index] & (labels == 0)
        covered = masks[index].sum() - visible.sum()
        if covered > max_covered * masks[index].sum():
            continue
        is_kept = int(visible.sum() >= max(1, min_area))
        number += is_kept
        labels[visible] = number if is_kept else -1  # What is too small hides all the same.
        kept += [scores[index]] * is_kept
    return np.maximum(labels, 0), kept


@pytest.mark.parametrize("seed", range(20))
class TestAgainstDenseMasks:
    def test_masks_and_areas(self, seed):
        masks, scores = random_masks(seed)
        kept = masks.any(axis=(1, 2))
        found = sparse(masks, scores)
        np.testing.assert_array_equal(found.full_masks(), masks[kept])
        np.testing.assert_array_equal(found.areas, masks[kept].sum(axis=(1, 2)))
        np.testing.assert_array_equal(found.scores, scores[kept])

    def test_pieces_are_those_of_scipy(self, seed):
        found = sparse(*random_masks(seed))
        for mask, whole in zip(found.in_one_piece().full_masks(), found.full_masks(), strict=True):
            parts, count = ndimage.label(whole)
            areas = np.bincount(parts.ravel(), minlength=count + 1)[1:]
            assert mask.sum() == areas.max()
            assert any((mask == (parts == number)).all() for number in range(1, count + 1))

    def test_rles_are_those_of_pycocotools(self, seed):
        masks, scores = random_masks(seed)
        wanted = [mask_util.encode(np.asfortranarray(mask)) for mask in masks if mask.any()]
        found = sparse(masks, scores).to_rles()
        assert [rle["counts"] for rle in found] == [rle["counts"].decode() for rle in wanted]
        assert all(rle["size"] == list(masks.shape[1:]) for rle in found)

    @pytest.mark.parametrize("min_area", [0, 9])
    @pytest.mark.parametrize("max_covered", [1.0, 0.5])
    def test_overlaps_go_to_the_higher_score(self, seed, min_area, max_covered):
        masks, scores = random_masks(seed)
        labels, kept = paint_pixels(masks, scores, min_area, max_covered)
        found = sparse(masks, scores).without_overlaps(min_area, max_covered)
        np.testing.assert_array_equal(found.label_map(), labels)
        np.testing.assert_array_equal(found.scores, kept)
        assert found.full_masks().sum(axis=0).max(initial=0) <= 1

    def test_label_map_there_and_back(self, seed):
        labels = sparse(*random_masks(seed)).without_overlaps().label_map()
        again = SparseInstances.from_label_map(labels)
        np.testing.assert_array_equal(again.label_map(), labels)

    def test_windows_of_the_label_map(self, seed):
        found = sparse(*random_masks(seed)).without_overlaps()
        rows, columns = slice(2, found.shape[0] - 1), slice(1, found.shape[1] - 2)
        whole = found.label_map()
        np.testing.assert_array_equal(found.paint(rows, columns), whole[rows, columns])


def test_what_is_enclosed_is_filled():
    """Two pixels that others enclose by their corners are; a bay is not."""
    rows = ["..##..###", ".#..#.#..", "..##..###"]
    mask = np.array([[pixel == "#" for pixel in row] for row in rows])
    (filled,) = sparse(mask[None], np.ones(1)).without_holes().full_masks()
    assert np.argwhere(filled & ~mask).tolist() == [[1, 2], [1, 3]]
    assert (filled >= mask).all()


class TestCoveredObjects:
    """Four objects in a row of 10 pixels, each with a lower score and over a part of the former."""

    ROWS = ["1111111...", "....2222..", ".....33333", "........44"]

    @pytest.fixture
    def found(self):
        masks = np.array([[[pixel != "." for pixel in row]] for row in self.ROWS])
        return sparse(masks, np.array([0.9, 0.8, 0.7, 0.6]))

    @pytest.mark.parametrize(
        "max_covered, wanted",
        [(1.0, "1111111233"), (0.75, "1111111233"), (0.6, "1111111222"), (0.0, "1111111.22")],
    )
    def test_what_is_mostly_covered_vanishes(self, found, max_covered, wanted):
        (row,) = found.without_overlaps(max_covered=max_covered).label_map()
        assert "".join(str(number) if number else "." for number in row) == wanted

    @pytest.mark.parametrize("covered", range(1, 10))
    def test_what_loses_just_the_allowed_share_stays(self, covered):
        masks = np.zeros((2, 1, 10), bool)
        masks[0, :, :covered] = masks[1] = True
        found = sparse(masks, np.array([0.9, 0.8]))
        assert len(found.without_overlaps(max_covered=covered / 10)) == 2

    def test_it_covers_nothing_itself(self, found):
        """3 lies half under 2, but 2 is gone."""
        kept = found.without_overlaps(max_covered=0.6)
        assert kept.scores.tolist() == [0.9, 0.7]

    @pytest.mark.parametrize("seed", range(10))
    @pytest.mark.parametrize("threshold", [0.25, 0.5])
    @pytest.mark.parametrize("max_covered", [0.5, 1.0])
    def test_a_threshold_may_come_before_or_after(self, seed, threshold, max_covered):
        found = sparse(*random_masks(seed))
        before = found.at_least(threshold).without_overlaps(max_covered=max_covered)
        after = found.without_overlaps(max_covered=max_covered).at_least(threshold)
        np.testing.assert_array_equal(before.label_map(), after.label_map())


def test_no_instances():
    found = SparseInstances.empty((4, 6))
    assert len(found.without_overlaps()) == 0
    assert found.label_map().shape == (4, 6)
    assert found.full_masks().shape == (0, 4, 6)
    assert found.to_rles() == []
    assert len(found.to_instances()) == 0


def test_detectron2_instances():
    found = sparse(*random_masks(1))
    instances = found.to_instances()
    np.testing.assert_array_equal(instances.pred_masks.numpy(), found.full_masks())
    np.testing.assert_array_equal(instances.pred_boxes.tensor.numpy(), found.boxes)
    assert instances.image_size == found.shape
