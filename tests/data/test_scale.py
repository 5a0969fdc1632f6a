"""Resizing by factors: sizes, exactness of crops, and what the mapper makes of the config."""

import numpy as np
import pytest
from detectron2.data import transforms as T

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data import build_augmentations
from unet_sharp_det.data.augmentation import RandomScaledCrop, ScaleBy
from unet_sharp_det.errors import ConfigError


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def apply(augmentation, image, segmentation=None):
    aug_input = T.AugInput(image, sem_seg=segmentation)
    transforms = augmentation(aug_input)
    return aug_input.image, aug_input.sem_seg, transforms


@pytest.mark.parametrize(
    ("factor", "limit", "expected"),
    [(2.0, 1000, (80, 120)), (0.5, 1000, (20, 30)), (2.0, 90, (60, 90))],
)
def test_scale_by_a_factor(factor, limit, expected):
    image, _, _ = apply(ScaleBy([factor], max_size=limit), noise(40, 60))
    assert image.shape[:2] == expected


def test_all_factors_are_drawn():
    scale = ScaleBy([1.0, 2.0], max_size=1000)
    heights = {apply(scale, noise(10, 10))[0].shape[0] for _ in range(40)}
    assert heights == {10, 20}


@pytest.mark.parametrize("factors", [[], [0.0], [-1.0, 2.0]])
def test_unusable_factors(factors):
    with pytest.raises(ConfigError, match="INPUT.SCALE"):
        ScaleBy(factors, max_size=100)


@pytest.mark.parametrize("factor", [1.0, 1.4, 2.0, 2.8])
def test_crops_have_the_size_that_counts_after_the_resize(factor):
    crop = RandomScaledCrop(ScaleBy([factor], 4096), (64, 96))
    assert all(
        abs(found - wanted) <= factor
        for found, wanted in zip(apply(crop, noise(200, 300))[0].shape[:2], (64, 96), strict=True)
    )


def test_a_smaller_image_stays_whole():
    image, _, _ = apply(RandomScaledCrop(ScaleBy([2.0], 4096), (224, 224)), noise(50, 300))
    assert image.shape[:2] == (100, 224)


@pytest.mark.parametrize("side", [1024, 8192])
def test_the_limit_is_of_the_crop_and_not_of_the_image_around_it(side):
    image = np.zeros((side, side, 1), np.uint8)
    crop = RandomScaledCrop(ScaleBy([2.0], 1463), (1024, 1024))
    found, _, transforms = apply(crop, image)
    assert found.shape[:2] == (1024, 1024)
    assert transforms.transforms[0].h == 512
    smaller, _, _ = apply(RandomScaledCrop(ScaleBy([2.0], 100), (1024, 1024)), image)
    assert smaller.shape[:2] == (100, 100)


def test_crops_reach_every_corner():
    crop = RandomScaledCrop(ScaleBy([1.0], 4096), (8, 8))
    image = noise(10, 10)
    corners = {tuple(apply(crop, image)[0][0, 0]) for _ in range(200)}
    assert corners == {tuple(image[y, x]) for y in range(3) for x in range(3)}


def test_segmentation_and_boxes_follow():
    image = np.zeros((60, 60, 3), np.uint8)
    image[20:40, 10:30] = 255
    label = (image[:, :, 0] > 0).astype(np.uint8)
    crop = RandomScaledCrop(ScaleBy([2.0], 4096), (100, 100))
    found, segmentation, transforms = apply(crop, image, label)
    rows, columns = np.nonzero(segmentation)
    box = transforms.apply_box(np.array([[10.0, 20.0, 30.0, 40.0]]))[0]
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.allclose(box, expected)
    assert ((found[:, :, 0] > 127) == (segmentation > 0)).mean() > 0.98


class TestConfig:
    def augmentations(self, is_train, **values):
        cfg = setup_cfg()
        cfg.INPUT.CROP.ENABLED = True
        cfg.INPUT.CROP.TYPE = "absolute"
        cfg.INPUT.CROP.SIZE = [64, 64]
        for key, value in values.items():
            cfg.INPUT[key] = value
        return [type(a) for a in build_augmentations(cfg, is_train)]

    def test_factors_in_place_of_sizes(self):
        kinds = self.augmentations(True, SCALE_TRAIN=[1.0, 2.0])
        assert kinds[0] is RandomScaledCrop
        assert T.ResizeShortestEdge not in kinds
        assert self.augmentations(False, SCALE_TEST=2.0) == [ScaleBy]

    def test_evaluation_sees_large_images_as_prediction_does(self):
        cfg = setup_cfg("", ["INPUT.SCALE_TEST", "2.0", "INPUT.MAX_SIZE_TEST", "2800"])
        (resize,) = build_augmentations(cfg, is_train=False)
        assert apply(resize, np.zeros((20, 2048, 1), np.uint8))[0].shape[:2] == (40, 4096)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_channels_are_resized_one_by_one(channels):
    """PIL would take the last of two or four for alpha, and weigh the others by it."""
    image = np.random.default_rng(0).integers(0, 256, (20, 30, channels), dtype=np.uint8)
    image[:, :, -1] = 0
    transform = ScaleBy([2.0]).get_transform(image)
    found = transform.apply_image(image)
    assert found.shape == (40, 60, channels)
    for channel in range(channels):
        alone = transform.apply_image(image[:, :, channel])
        np.testing.assert_array_equal(found[:, :, channel], alone)
