"""Quarter turns are exact, and colours change nothing but the image."""

import colorsys

import numpy as np
import pytest
from detectron2.data import transforms as T

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data import build_augmentations
from unet_sharp_det.data.augmentation import (
    RandomColor,
    RandomRotate90,
    Rotate90Transform,
    StretchContrast,
    shift_hsv,
)
from unet_sharp_det.errors import ConfigError

HEIGHT, WIDTH = 5, 8


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.mark.parametrize("turns", range(4))
def test_every_pixel_goes_where_its_centre_goes(image, turns):
    transform = Rotate90Transform(HEIGHT, WIDTH, turns)
    turned = transform.apply_image(image)
    assert turned.shape == ((HEIGHT, WIDTH, 3) if turns % 2 == 0 else (WIDTH, HEIGHT, 3))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            centre = transform.apply_coords(np.array([[x + 0.5, y + 0.5]]))[0]
            column, row = np.floor(centre).astype(int)
            assert (turned[row, column] == image[y, x]).all()


@pytest.mark.parametrize("turns", range(4))
def test_the_box_of_a_turned_mask_is_the_turned_box(turns):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[1:3, 4:7] = 1
    transform = Rotate90Transform(HEIGHT, WIDTH, turns)
    rows, columns = np.nonzero(transform.apply_segmentation(mask))
    fitted = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert transform.apply_box(np.array([[4.0, 1.0, 7.0, 3.0]]))[0].tolist() == fitted
    assert len(rows) == mask.sum()


def test_one_turn_is_counter_clockwise():
    mask = np.array([[0, 0, 1], [0, 0, 0]])  # top right
    turned = Rotate90Transform(2, 3, 1).apply_segmentation(mask)
    assert turned.tolist() == [[1, 0], [0, 0], [0, 0]]  # top left


def test_all_four_turns_are_drawn_about_equally(image):
    np.random.seed(0)
    drawn = [RandomRotate90().get_transform(image).quarter_turns for _ in range(400)]
    assert all(70 < drawn.count(turns) < 130 for turns in range(4))


def test_inversion_as_often_as_asked(image):
    invert = build_augmentations(setup_cfg("", ["INPUT.INVERT_PROB", "0.3"]), is_train=True)[-1]
    np.random.seed(0)
    drawn = [invert.get_transform(image).apply_image(image) for _ in range(300)]
    inverted = sum((each == 255 - image).all() for each in drawn)
    assert 60 < inverted < 120
    assert inverted + sum((each == image).all() for each in drawn) == 300
    with pytest.raises(ConfigError, match="INPUT.INVERT_PROB is 2.0, but"):
        build_augmentations(setup_cfg("", ["INPUT.INVERT_PROB", "2.0"]), is_train=True)


def colour(prob=1.0, image_format="BGR", **changes):
    limits = {"hsv": [20, 30, 20], "brightness": 0.2, "contrast": 0.2, **changes}
    return RandomColor(prob, image_format=image_format, **limits)


def test_colour_changes_only_the_image(image):
    np.random.seed(0)
    mask = np.eye(HEIGHT, WIDTH, dtype=np.uint8)
    for _ in range(8):
        aug_input = T.AugInput(image.copy(), boxes=np.array([[1.0, 1.0, 4.0, 3.0]]), sem_seg=mask)
        transform = colour()(aug_input)
        assert (aug_input.image != image).any()
        assert aug_input.image.dtype == np.uint8
        assert aug_input.image.shape == image.shape
        assert (aug_input.sem_seg == mask).all()
        assert aug_input.boxes.tolist() == [[1.0, 1.0, 4.0, 3.0]]
        assert (transform.apply_segmentation(mask) == mask).all()


def test_both_kinds_of_change_are_drawn_and_probability_is_kept(image):
    np.random.seed(0)
    drawn = [type(colour(0.5).get_transform(image)) for _ in range(400)]
    assert 160 < drawn.count(T.NoOpTransform) < 240
    assert 70 < drawn.count(T.ColorTransform) < 130
    assert 70 < drawn.count(T.BlendTransform) < 130


def test_limits_of_zero_change_nothing(image):
    np.random.seed(0)
    for _ in range(8):
        transform = colour(hsv=[0, 0, 0], brightness=0.0, contrast=0.0).get_transform(image)
        assert (transform.apply_image(image) == image).all()


@pytest.mark.parametrize("image_format, order", [("RGB", (0, 1, 2)), ("BGR", (2, 1, 0))])
def test_hsv_shift_agrees_with_colorsys_in_the_declared_order(image, image_format, order):
    shifted = shift_hsv(image, (15.0, -25.0, 10.0), image_format)
    for before, after in zip(image.reshape(-1, 3), shifted.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(before[list(order)] / 255))
        saturation = np.clip(saturation - 25 / 255, 0, 1)
        value = np.clip(value + 10 / 255, 0, 1)
        expected = colorsys.hsv_to_rgb((hue + 15 / 360) % 1, saturation, value)
        assert np.abs(after[list(order)] - np.array(expected) * 255).max() <= 1


def test_brightness_scales_and_contrast_keeps_the_mean(image):
    np.random.seed(1)
    gray = np.clip(image, 60, 180)
    bright = colour(image_format="L", contrast=0.0).get_transform(gray)
    ratio = bright.apply_image(gray).astype(float) / gray
    assert ratio.std() < 0.01
    assert 0.79 < ratio.mean() < 1.21
    contrast = colour(image_format="L", brightness=0.0).get_transform(gray).apply_image(gray)
    assert abs(contrast.mean() - gray.mean()) < 1
    assert abs(contrast.std() / gray.std() - 1) > 0.01


def test_grayscale_never_gets_an_hsv_shift(image):
    drawn = {type(colour(image_format="L").get_transform(image[:, :, :1])) for _ in range(50)}
    assert drawn == {T.BlendTransform}


@pytest.mark.parametrize(
    "changes, key",
    [
        ({"prob": 1.5}, "PROB"),
        ({"brightness": -0.1}, "BRIGHTNESS"),
        ({"contrast": 2}, "CONTRAST"),
        ({"hsv": [1, 2]}, "HSV"),
        ({"hsv": [1, 2, -3]}, "HSV"),
        ({"image_format": "HSV"}, "FORMAT"),
    ],
)
def test_values_out_of_range_are_named(changes, key):
    with pytest.raises(ConfigError, match=key):
        colour(**changes)


def test_stretched_contrast_reaches_the_image_alone():
    image = np.random.default_rng(0).integers(10, 41, (20, 30, 3)).astype(np.uint8)
    labels = np.full((20, 30), 7, np.uint8)
    stretched = T.AugInput(image, sem_seg=labels)
    T.AugmentationList([StretchContrast()])(stretched)
    assert (stretched.image.min(), stretched.image.max()) == (0, 255)
    assert np.array_equal(stretched.sem_seg, labels)


@pytest.mark.parametrize("is_train", [True, False])
def test_contrast_is_stretched_before_the_cut(is_train):
    cfg = setup_cfg("", ["INPUT.STRETCH_CONTRAST", "True", "INPUT.SCALE_TEST", "1.0"])
    assert isinstance(build_augmentations(cfg, is_train)[0], StretchContrast)
    cfg.INPUT.STRETCH_CONTRAST = False
    assert not isinstance(build_augmentations(cfg, is_train)[0], StretchContrast)
