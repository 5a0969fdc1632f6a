"""Predictor: batches, tiles, memory that does not suffice, and bad images."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from object_shares import assert_same_objects, share_of_same_objects
from prediction_models import (
    BrightBlobs,
    blobs,
    compact_detector_cfg,
    half_foreground_model,
    predictor_of,
    semantic_cfg,
    watershed_cfg,
)

from unet_sharp_det.data.augmentation import ScaleBy
from unet_sharp_det.errors import ConfigError, UserError
from unet_sharp_det.files import write_text
from unet_sharp_det.images.source import from_array
from unet_sharp_det.masks.instances import SparseInstances
from unet_sharp_det.masks.watershed import distance_bands
from unet_sharp_det.prediction import PredictionOptions, Predictor
from unet_sharp_det.prediction.tile_grid import tile_grid


def watch(predictor):
    """Let a predictor find nothing; returns the list of the windows, tiles and scales it sees."""
    calls = []

    def find(windows, tiles, shape, scale, factor):
        calls.append((windows, tiles, scale))
        return [SparseInstances.empty(shape) for _ in tiles]

    predictor._finder.find = find
    return calls


def watch_sizes(predictor):
    """Return the list of the sizes of what a predictor's network sees."""
    sizes = []
    hook = lambda module, inputs: sizes.append(tuple(inputs[0].shape[2:]))  # noqa: E731
    predictor._finder.model.backbone.register_forward_pre_hook(hook)
    return sizes


class TestBatches:
    def test_images_of_one_size_go_together(self):
        finder = BrightBlobs()
        sizes = [(40, 50), (30, 30), (40, 50), (40, 50), (30, 30)]
        images, labels = zip(*(blobs(size, seed) for seed, size in enumerate(sizes)), strict=True)
        done = []
        results = predictor_of(finder, batch_size=2).predict_many(images, done.append)
        for found, wanted in zip(results, labels, strict=True):
            assert_same_objects(found, wanted)
        assert sorted(finder.batches) == [1, 2, 2]
        assert sum(done) == sum(height * width for height, width in sizes)

    @pytest.mark.parametrize(
        "shape, count", [((256, 256), 4), ((512, 512), 4), ((512, 1024), 2), ((2048, 2048), 1)]
    )
    def test_large_windows_fill_a_batch_sooner(self, shape, count):
        assert PredictionOptions(batch_size=4).batch_of(shape) == count

    def test_a_bad_image_is_a_result_among_the_others(self, tmp_path):
        write_text(tmp_path / "broken.png", "no image")
        image, labels = blobs((40, 40))
        results = predictor_of(BrightBlobs()).predict_many([image, tmp_path / "broken.png", image])
        assert isinstance(results[1], UserError)
        assert "broken.png" in str(results[1])
        assert_same_objects(results[0], labels)
        assert_same_objects(results[2], labels)

    def test_one_bad_image_is_raised(self, tmp_path):
        with pytest.raises(UserError, match="nowhere.png"):
            predictor_of(BrightBlobs())(tmp_path / "nowhere.png")

    def test_small_objects_are_left_out(self):
        image, labels = blobs((60, 60))
        areas = np.bincount(labels.ravel())[1:]
        least = int(np.median(areas)) + 1
        found = predictor_of(BrightBlobs(), min_area=least)(image)
        assert sorted(found.areas) == sorted(areas[areas >= least])
        assert 0 < len(found) < len(areas)

    def test_objects_have_one_piece_and_no_hole(self):
        image, labels = np.zeros((60, 60, 3), np.uint8), np.zeros((60, 60), np.int32)
        labels[10:30, 10:30] = 1
        image[labels > 0] = 255
        image[18:22, 18:22] = 0
        (area,) = predictor_of(BrightBlobs(), clean=True)(image).areas
        (raw,) = predictor_of(BrightBlobs())(image).areas
        assert (area, raw) == (400, 384)

    def test_what_options_leave_open_is_the_model_s(self):
        assert predictor_of(BrightBlobs()).options.score_threshold == 0.5
        own = PredictionOptions(scale=2).completed(score_threshold=0.3, min_area=20)
        assert (own.score_threshold, own.min_area) == (0.3, 5)  # At twice the size.
        given = PredictionOptions(score_threshold=0.0, min_area=0).completed(0.3, 20)
        assert (given.score_threshold, given.min_area) == (0, 0)


class TestTiles:
    @pytest.mark.parametrize("side", [1000, 400, 130])
    def test_too_little_memory(self, side):
        """Batches, then tiles are halved until they fit; nothing is lost, nothing doubled."""
        image, labels = blobs((500, 430))
        finder = BrightBlobs(memory=2 * side * side)
        done = []
        predictor = predictor_of(finder, tile_size=512, tile_overlap=32)
        results = predictor.predict_many([image, image], done.append)
        for found in results:
            assert_same_objects(found, labels)
        assert sum(done) == 2 * labels.size

    def test_far_too_little_memory(self):
        image, _ = blobs((500, 430))
        predictor = predictor_of(BrightBlobs(memory=100), tile_size=512, tile_overlap=32)
        with pytest.raises(UserError, match="memory"):
            predictor(image)

    def test_tiles_are_resized_by_the_factor_of_the_image(self):
        """As evaluation resizes it. To sizes, each of these tiles would have another factor."""
        resize = T.ResizeShortestEdge([80], 1000, "choice")
        options = PredictionOptions(tile_size=128, tile_overlap=32)
        predictor = Predictor(build_model(semantic_cfg()), resize, options=options)
        seen = watch_sizes(predictor)
        predictor(blobs((160, 300))[0])
        tiles = tile_grid((160, 300), 128, 32, 8)
        assert set(seen) == {tuple(side // 2 for side in tile.shape) for tile in tiles}
        assert len(set(seen)) > 1

    @pytest.mark.parametrize("overlap", [20, 37, 50])
    def test_they_begin_at_multiples_of_the_network_s_stride(self, overlap):
        """Of a U-Net too, which pads by itself and so has no divisibility."""
        options = PredictionOptions(tile_size=128, tile_overlap=overlap)
        predictor = Predictor(build_model(semantic_cfg()), ScaleBy([1.0], 4096), options=options)
        calls = watch(predictor)
        predictor(blobs((500, 430))[0])
        seen = [tile for _, tiles, _ in calls for tile in tiles]
        starts = {start for tile in seen for start in (tile.rows.start, tile.columns.start)}
        assert len(starts) > 3
        assert all(start % 4 == 0 for start in starts)

    @pytest.mark.parametrize(("factor", "overlap"), [(1.0, 256), (2.0, 128), (0.25, 256)])
    def test_they_share_as_many_pixels_of_the_network_s_input(self, factor, overlap):
        """But no more of the image than that, where it sees the image smaller."""
        options = PredictionOptions(tile_size=600)
        predictor = Predictor(build_model(semantic_cfg()), ScaleBy([factor]), options=options)
        calls = watch(predictor)
        predictor(blobs((40, 1300))[0])
        columns = [tile.columns for _, tiles, _ in calls for tile in tiles]
        shared = {left.stop - right.start for left, right in itertools.pairwise(columns)}
        assert all(overlap <= each < overlap + 16 for each in shared)
        assert len(columns) > 2

    def test_the_network_sees_no_tile_of_one_colour(self):
        """What a scanner left out may be most of a slide."""
        image, labels = np.zeros((500, 900, 3), np.uint8), np.zeros((500, 900), np.int64)
        image[:, 600:] = 40, 35, 30
        image[100:200, 700:800], labels[100:200, 700:800] = blobs((100, 100))
        finder, done = BrightBlobs(), []
        predictor = predictor_of(finder, tile_size=160, tile_overlap=40, batch_size=4)
        (found,) = predictor.predict_many([image], done.append)
        assert_same_objects(found, labels)
        tiles = tile_grid(labels.shape, 160, 40)
        plain = [(image[t.rows, t.columns] == image[t.rows, t.columns][0, 0]).all() for t in tiles]
        assert 0 < sum(finder.batches) < len(tiles) - sum(plain) + 4
        assert max(finder.largest) <= 160
        assert sum(done) == labels.size

    def test_intensities_are_scaled_before_the_cut(self):
        """A 16-bit image, dark but for one end: tiles scaled one by one would be stretched."""
        image = np.random.default_rng(0).integers(100, 120, (200, 600)).astype(np.uint16)
        image[:, 500:] = 60000
        image[50:60, 550:560] = 100
        found = predictor_of(BrightBlobs(), tile_size=200, tile_overlap=20)(image)
        assert found.boxes.tolist() == [[500, 0, 600, 200]]


class TestOptions:
    @pytest.mark.parametrize(
        "options, name",
        [
            ({"score_threshold": 1.5}, "score_threshold is 1.5"),
            ({"batch_size": 0}, "batch_size is 0"),
            ({"tile_size": 32, "tile_overlap": 8}, "tile_size is 32"),
            ({"tile_overlap": 0}, "tile_overlap is 0"),
            ({"tile_overlap": 600}, "tile_overlap is 600, but it must be from 8 to 512"),
            ({"max_covered": 2.0}, "max_covered is 2.0"),
            ({"min_area": -1}, "min_area is -1"),
        ],
    )
    def test_out_of_range(self, options, name):
        with pytest.raises(ConfigError, match=name):
            PredictionOptions(**options)


class TestScale:
    """A scale of the user's comes on top of the training's."""

    @pytest.mark.parametrize(
        "resize, wanted",
        [
            (ScaleBy([2.0], 4096), (120, 180)),
            (T.ResizeShortestEdge([80], 1000, "choice"), (120, 180)),
            (T.ResizeShortestEdge([80], 100, "choice"), (100, 150)),
        ],
    )
    def test_factor(self, resize, wanted):
        options = PredictionOptions(scale=1.5)
        predictor = Predictor(build_model(semantic_cfg()), resize, options=options)
        seen = watch_sizes(predictor)
        predictor(np.zeros((40, 60, 3), np.uint8))
        assert seen[0] == wanted

    @pytest.mark.parametrize(
        ("model", "image", "options", "scale", "min_area"),
        [
            (0.5, (0.25, 0.25), {}, 0.5, 80),
            (0.5, (0.2, 0.8), {}, 0.8, 31),
            (0.5, None, {}, 1.0, 20),
            (0.0, (0.25, 0.25), {}, 1.0, 20),
            (0.5, (0.25, 0.25), {"scale": 2.0}, 2.0, 5),
            (0.5, (0.25, 0.25), {"min_area": 7}, 0.5, 7),
        ],
    )
    @pytest.mark.parametrize("tile_size", [64, 1024])
    def test_objects_get_as_large_as_those_of_the_training(
        self, model, image, options, scale, min_area, tile_size, caplog
    ):
        """An image of half the pixel size has objects of twice as many pixels along a side."""
        caplog.set_level("INFO")
        options = PredictionOptions(tile_size=tile_size, tile_overlap=16, **options)
        network = build_model(semantic_cfg())
        resize, own = ScaleBy([1.0], 4096), (0.5, 20)
        predictor = Predictor(network, resize, pixel_size=model, own=own, options=options)
        calls, areas = watch(predictor), set()
        predictor._select = lambda found, chosen: areas.add(chosen.min_area)
        source = replace(from_array(blobs((90, 90))[0]), pixel_size=image)
        predictor.predict_many([source, source])
        assert ({call[2] for call in calls}, areas) == ({scale}, {min_area})
        told = [text for text in caplog.messages if "the scale is" in text]
        assert len(told) == (options.scale is None and model > 0)

    def test_images_of_one_size_but_of_two_scales_are_no_batch(self):
        options = PredictionOptions(batch_size=4)
        predictor = Predictor(
            build_model(semantic_cfg()), ScaleBy([1.0], 4096), pixel_size=0.5, options=options
        )
        calls = watch(predictor)
        source = from_array(blobs((60, 60))[0])
        sizes = [(0.5, 0.5), (1.0, 1.0), (0.5, 0.5), (100.0, 100.0)]
        *_, failed = predictor.predict_many([replace(source, pixel_size=size) for size in sizes])
        assert [(len(windows), scale) for windows, _, scale in calls] == [(2, 1.0), (1, 2.0)]
        assert "scale is 200.0" in str(failed)


class TestModels:
    """The real finders on networks with random weights."""

    @pytest.fixture(scope="class")
    @staticmethod
    def detector():
        torch.manual_seed(0)
        return build_model(compact_detector_cfg())

    def test_a_batch_finds_what_single_images_find(self, detector):
        options = PredictionOptions(score_threshold=0.0, batch_size=3)
        predictor = Predictor(detector, ScaleBy([2.0], 4096), options=options)
        images = [blobs((64, 64), seed)[0] for seed in range(3)]
        together = predictor.predict_many(images)
        for found, image in zip(together, images, strict=True):
            alone = predictor(image)
            assert len(found) == len(alone) > 3
            np.testing.assert_allclose(found.scores, alone.scores, atol=1e-4)

    def test_the_score_threshold_is_a_prefix(self, detector):
        image, _ = blobs((64, 64))
        resize = ScaleBy([2.0], 4096)
        low = Predictor(detector, resize, options=PredictionOptions(score_threshold=0.0))
        scores = low(image).scores
        threshold = float(np.sort(scores)[len(scores) // 2])
        options = PredictionOptions(score_threshold=threshold, clean=False)
        high = Predictor(detector, resize, options=options)
        whole = tile_grid(image.shape[:2], max(image.shape), 0)
        (raw,) = low._finder.find([image], whole, image.shape[:2], 2.0)
        filtered = raw.select(raw.scores >= threshold).without_overlaps(max_covered=0.5)
        np.testing.assert_array_equal(filtered.label_map(), high(image).label_map())
        assert threshold in high(image).scores  # "at least", as in evaluation

    def test_the_model_given_stays_as_it_is(self, detector):
        before = detector.roi_heads.box_predictor.test_score_thresh
        detector.train()
        Predictor(detector, ScaleBy([2.0], 4096), options=PredictionOptions(score_threshold=0.9))
        assert detector.roi_heads.box_predictor.test_score_thresh == before
        assert detector.training

    def test_semantic_components_in_tiles_are_those_of_the_whole(self):
        image, _ = blobs((300, 260), sigma=5)
        model = half_foreground_model(image)
        resize = ScaleBy([1.0], 4096)
        whole = Predictor(model, resize, options=PredictionOptions(tile_size=512))(image)
        options = PredictionOptions(tile_size=176, tile_overlap=88)
        cut = Predictor(model, resize, options=options)(image)
        assert len(whole) > 20
        assert share_of_same_objects(whole, cut) >= 0.99
        assert share_of_same_objects(cut, whole) >= 0.99

    def test_a_watershed_in_tiles_makes_the_objects_of_the_whole(self):
        labels = touching_disks((300, 260))
        model = build_model(watershed_cfg(**{"MODEL.WATERSHED.NUM_CLASSES": "2"})).eval()
        bands = distance_bands(labels, 3)
        bands[labels % 2 > 0] += 3  # Of the other class.
        whole, cut = (
            predict_bands(model, bands, tile_size=size, tile_overlap=88) for size in (512, 176)
        )
        for found in (whole, cut):
            numbers = [labels[mask].max() for mask in found.full_masks()]
            assert (found.classes == np.array(numbers) % 2).mean() > 0.99
        assert len(whole) == len(cut) == labels.max() > 100
        assert share_of_same_objects(whole, cut) >= 0.99
        assert share_of_same_objects(cut, whole) >= 0.99

    def test_a_semantic_threshold_is_of_objects(self):
        image, _ = blobs((300, 260), sigma=5)
        model = half_foreground_model(image)
        resize = ScaleBy([1.0], 4096)
        everything = Predictor(model, resize)(image)
        threshold = float(np.sort(everything.scores)[len(everything) // 2])
        options = PredictionOptions(score_threshold=threshold)
        found = Predictor(model, resize, options=options)(image)
        assert 0 < len(found) == np.count_nonzero(everything.scores >= threshold) < len(everything)
        assert threshold in found.scores

    def test_the_most_probable_of_exclusive_classes_needs_no_half(self):
        cfg = semantic_cfg()
        cfg.MODEL.SEM_SEG_HEAD.ACTIVATION, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = "softmax", 4
        torch.manual_seed(0)
        model, image = build_model(cfg).eval(), blobs((64, 64))[0]
        options = PredictionOptions(clean=False, precision="fp32")
        found = Predictor(model, ScaleBy([1.0], 4096), options=options)(image)
        with torch.inference_mode():
            pixels = torch.from_numpy(image.transpose(2, 0, 1).copy())
            winners = model([{"image": pixels}])[0]["sem_seg"].argmax(dim=0).numpy()
        assert (found.scores < 0.5).any()
        np.testing.assert_array_equal(found.label_map() > 0, winners > 0)


def touching_disks(shape):
    """A label map of disks, 8 to 10 pixels in radius, in rows without a gap between them."""
    random = np.random.default_rng(0)
    labels = np.zeros(shape, int)
    y, x = np.ogrid[: shape[0], : shape[1]]
    for top in range(12, shape[0], 25):
        for left in range(10, shape[1], 17):
            radius = random.uniform(8, 10)
            inside = (y - top - random.uniform(-1, 1)) ** 2 + (x - left) ** 2 <= radius**2
            labels[inside & (labels == 0)] = labels.max() + 1
    return labels


def predict_bands(model, bands, **options):
    """What a watershed finds with a network that is sure of these bands, and knows where it is."""
    predictor = Predictor(model, ScaleBy([1.0]), options=PredictionOptions(**options))
    places = np.repeat(bands.astype(np.uint8)[:, :, None], 3, axis=2)

    def see(inputs):
        labels = predictor._finder.labels
        return [labels.encode(each["image"][:1])[0][0].float() for each in inputs]

    predictor._finder.model.probabilities = see
    return predictor(places)
