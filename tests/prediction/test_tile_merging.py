"""Tiles cover an image once, and what they find is joined to what the whole image holds."""

import numpy as np
import pytest
from object_shares import assert_same_objects
from scipy import ndimage

from unet_sharp_det.errors import ConfigError
from unet_sharp_det.masks.instances import SparseInstances
from unet_sharp_det.prediction.merging import merge_detections, sew_components
from unet_sharp_det.prediction.tile_grid import alignment_of, tile_grid


class TestGrid:
    @pytest.mark.parametrize(
        "shape", [(1, 1), (100, 90), (101, 100), (100, 333), (257, 512), (1000, 64)]
    )
    @pytest.mark.parametrize("overlap, alignment", [(0, 1), (20, 16), (31, 1), (84, 16)])
    def test_cores_part_the_image(self, shape, overlap, alignment):
        count = np.zeros(shape, int)
        for tile in tile_grid(shape, 100, overlap, alignment):
            count[tile.core_rows, tile.core_columns] += 1
            assert max(tile.shape) <= 100
            assert tile.rows.start % alignment == tile.columns.start % alignment == 0
            for window, core, length, edges in (
                (tile.rows, tile.core_rows, shape[0], tile.inner_edges[1::2]),
                (tile.columns, tile.core_columns, shape[1], tile.inner_edges[::2]),
            ):
                assert 0 <= window.start <= core.start < core.stop <= window.stop <= length
                assert edges == (window.start > 0, window.stop < length)
                assert not edges[0] or core.start - window.start >= overlap // 2
                assert not edges[1] or window.stop - core.stop >= overlap // 2
        assert (count == 1).all()

    def test_tiles_that_do_not_advance(self):
        with pytest.raises(ConfigError, match="tile_size of at least 116"):
            tile_grid((500, 500), 110, 100, 16)

    @pytest.mark.parametrize(
        "scale, alignment", [(2.0, 16), (1.0, 32), (0.5, 64), (1.4, 160), (1.37, 1), (8.0, 4)]
    )
    def test_alignment(self, scale, alignment):
        assert alignment_of(scale, 32) == alignment
        if alignment > 1:
            assert alignment * scale % 32 == pytest.approx(0)


def scene(shape, objects):
    """Draw ellipses (y, x, height, width) as a label map."""
    labels = np.zeros(shape, np.int32)
    ys, xs = np.mgrid[: shape[0], : shape[1]]
    for number, (y, x, height, width) in enumerate(objects, 1):
        inside = ((ys - y) / (height / 2)) ** 2 + ((xs - x) / (width / 2)) ** 2 <= 1
        labels[inside & (labels == 0)] = number
    return labels


def detect(labels, tiles, jitter=0):
    """Return what a perfect detector sees of a label map in each tile, moved by some pixels."""
    parts = []
    for index, tile in enumerate(tiles):
        window = labels[tile.rows, tile.columns]
        if jitter:
            window = ndimage.shift(window, [(index % 3 - 1) * jitter, 0], order=0)
        found = SparseInstances.from_label_map(window)
        parts.append(found.moved(tile.rows.start, tile.columns.start, labels.shape))
    return parts


class TestMergedDetections:
    SIZE, OVERLAP = 100, 32

    def merge(self, labels, jitter=0):
        tiles = tile_grid(labels.shape, self.SIZE, self.OVERLAP, 4)
        return merge_detections(labels.shape, tiles, detect(labels, tiles, jitter))

    @pytest.mark.parametrize("offset", range(-40, 41, 5))
    def test_an_object_anywhere_about_the_seams(self, offset):
        labels = scene((168, 168), [(84 + offset, 84 - offset // 2, 24, 30)])
        assert_same_objects(self.merge(labels), labels)

    def test_dense_objects(self):
        random = np.random.default_rng(0)
        grid = [(y, x) for y in range(8, 400, 16) for x in range(8, 330, 16)]
        objects = [(y, x, *random.uniform(8, 15, 2)) for y, x in grid]
        labels = scene((400, 330), objects)
        found = self.merge(labels)
        assert_same_objects(found, labels)

    @pytest.mark.parametrize("size", [(70, 60), (150, 40), (220, 300)])
    def test_an_object_larger_than_the_overlap_is_one(self, size):
        labels = scene((330, 340), [(160, 171, *size), (20, 20, 12, 12)])
        assert_same_objects(self.merge(labels), labels)

    def test_one_whose_class_differs_between_tiles_is_one_if_classes_say_nothing(self):
        labels = scene((330, 340), [(160, 171, 220, 300)])
        tiles = tile_grid(labels.shape, self.SIZE, self.OVERLAP, 4)
        parts = detect(labels, tiles)
        for number, part in enumerate(parts):
            part.classes[:] = number % 3
        sizes = [part.areas.max(initial=0) for part in parts]
        found = merge_detections(labels.shape, tiles, parts, by_class=False)
        assert_same_objects(found, labels)
        assert found.classes.tolist() == [np.argmax(sizes) % 3]

    def test_detections_that_differ_between_tiles_are_one(self):
        labels = scene((168, 168), [(84, 84, 24, 30), (40, 84, 12, 12), (84, 130, 13, 11)])
        assert len(self.merge(labels, jitter=2)) == 3

    def test_touching_objects_stay_two(self):
        labels = scene((168, 168), [(84, 74, 30, 20), (84, 94, 30, 20)])
        assert_same_objects(self.merge(labels), labels)

    def test_classes_do_not_rival(self):
        """A cell and its nucleus, with the seam between their centres."""
        for x in range(60, 110, 3):
            cell = scene((100, 168), [(50, x, 40, 30)])
            nucleus = scene((100, 168), [(50, x + 9, 9, 9)])
            tiles = tile_grid(cell.shape, self.SIZE, self.OVERLAP, 4)
            parts = []
            for cells, nuclei in zip(detect(cell, tiles), detect(nucleus, tiles), strict=True):
                nuclei.classes[:] = 1
                parts.append(SparseInstances.concatenate(cell.shape, [cells, nuclei]))
            found = merge_detections(cell.shape, tiles, parts)
            assert sorted(found.classes) == [0, 1]

    def test_overlapping_objects_of_one_class_stay_two(self):
        for x in range(50, 100, 2):
            left, right = np.zeros((2, 100, 168), np.int32)
            left[40:66, x : x + 26] = right[40:66, x + 10 : x + 36] = 1
            tiles = tile_grid(left.shape, self.SIZE, self.OVERLAP, 4)
            pairs = zip(detect(left, tiles), detect(right, tiles), strict=True)
            parts = [SparseInstances.concatenate(left.shape, pair) for pair in pairs]
            assert len(merge_detections(left.shape, tiles, parts)) == 2

    def test_arms_that_meet_in_another_tile(self):
        labels = np.zeros((168, 168), np.int32)
        labels[20:150, 20:130] = 1
        labels[20:120, 30:40] = labels[20:120, 60:90] = 0
        assert_same_objects(self.merge(labels), labels)

    def test_nothing_found(self):
        assert len(self.merge(np.zeros((168, 168), np.int32))) == 0


class TestSewnComponents:
    @pytest.mark.parametrize("seed", range(4))
    def test_components_of_the_whole(self, seed):
        random = np.random.default_rng(seed)
        mask = ndimage.gaussian_filter(random.standard_normal((190, 230)), 2 + seed) > 0
        tiles = tile_grid(mask.shape, 64, 16)
        parts = []
        for tile in tiles:
            part = SparseInstances.from_label_map(
                ndimage.label(mask[tile.core_rows, tile.core_columns])[0]
            )
            parts.append(part.moved(tile.core_rows.start, tile.core_columns.start, mask.shape))
        assert_same_objects(sew_components(mask.shape, parts), ndimage.label(mask)[0])

    def test_classes_stay_apart_and_scores_are_means(self):
        left = SparseInstances.from_label_map(np.array([[1, 1]]), [0.9]).moved(0, 0, (1, 6))
        right = SparseInstances.from_label_map(np.array([[1, 1, 1, 1]]), [0.6]).moved(0, 2, (1, 6))
        (score,) = sew_components((1, 6), [left, right]).scores
        assert score == pytest.approx((2 * 0.9 + 4 * 0.6) / 6)
        right.classes[:] = 1
        assert len(sew_components((1, 6), [left, right])) == 2
