"""What the model sees of an image: the training's uint8, from windows of any image."""

import cv2
import numpy as np
import pytest
import tifffile

from unet_sharp_det.data.augmentation import StretchContrast
from unet_sharp_det.errors import ConfigError, DatasetError
from unet_sharp_det.images import intensity
from unet_sharp_det.images.decoding import read_image, read_picture
from unet_sharp_det.images.intensity import PERCENTILES, prepare, rescale_to_uint8
from unet_sharp_det.images.source import from_array, open_image

ALL = slice(None)


def dim(shape, dtype, seed=0):
    """Values as of a fluorescence image: a dark ground and few bright spots."""
    values = np.random.default_rng(seed).gamma(0.7, size=shape)
    values = values / values.max()
    if np.dtype(dtype).kind == "f":
        return (values - 0.1).astype(dtype)
    info = np.iinfo(dtype)
    return (values * (info.max // 2) + info.min // 3).astype(dtype)


def by_definition(pixels, image_format, stretch):
    """uint8 of pixels (H, W) or (H, W, 3), in BGR order, without the package's code."""
    if pixels.dtype != np.uint8:
        pixels = scaled(pixels)
    if image_format == "L" and pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    pixels = np.repeat(pixels, 3, 2) if image_format != "L" and pixels.shape[2] == 1 else pixels
    pixels = pixels[:, :, ::-1] if image_format == "RGB" else pixels
    return scaled(pixels) if stretch else pixels


def scaled(values):
    low, high = np.percentile(values, PERCENTILES)
    if high <= low:
        low, high = values.min(), values.max()
    low, high = float(low), float(high)
    shares = (np.clip(values.astype(float), low, high) - low) / ((high - low) or 1)
    return np.rint(shares * 255).astype(np.uint8)


@pytest.fixture
def small_windows(monkeypatch):
    """Passes over several windows."""
    monkeypatch.setattr(intensity, "_BAND_VALUES", 300)


SIZES = {"gray": (61, 83), "colour": (61, 83, 3), "a pixel": (1, 1)}


@pytest.mark.parametrize("stretch", [False, True])
@pytest.mark.parametrize("image_format", ["RGB", "BGR", "L"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("suffix", ["u1.png", "u2.png", "u1.tif", "u2.tif", "i2.tif", "f4.tif"])
def test_equal_to_the_definition_bit_for_bit(
    tmp_path, small_windows, suffix, size, image_format, stretch
):
    path = tmp_path / suffix
    pixels = dim(SIZES[size], suffix[:2])
    assert cv2.imwrite(str(path), pixels)
    prepared = prepare(open_image(path)[0], image_format, stretch)
    expected = by_definition(pixels, image_format, stretch)
    assert prepared.shape == expected.shape[:2]
    window = prepared.window(ALL, ALL)
    assert window.dtype == np.uint8
    np.testing.assert_array_equal(window, expected)
    part = (slice(20, 40), slice(11, 70))
    np.testing.assert_array_equal(prepared.window(*part), expected[part])
    assert prepared.window(slice(0, 0), ALL).shape == (0, *expected.shape[1:])


@pytest.mark.parametrize("kind", ["constant", "flat with spots"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_percentiles_that_coincide(tmp_path, small_windows, kind, dtype):
    pixels = np.full((60, 70), 7, dtype)
    if kind != "constant":
        pixels[0, :3], pixels[3, 3] = 107, 3
    path = tmp_path / "a.tif"
    assert cv2.imwrite(str(path), pixels)
    for stretch in (False, True):
        window = prepare(open_image(path)[0], "RGB", stretch).window(ALL, ALL)
        np.testing.assert_array_equal(window, by_definition(pixels, "RGB", stretch))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("image_format", ["RGB", "L"])
def test_the_mapper_stretches_as_a_prediction_does(tmp_path, dtype, image_format):
    assert cv2.imwrite(str(tmp_path / "a.tif"), dim((61, 83, 3), dtype))
    image = read_image(tmp_path / "a.tif", image_format)
    stretched = StretchContrast().get_transform(image).apply_image(image)
    prepared = prepare(open_image(tmp_path / "a.tif")[0], image_format, True)
    np.testing.assert_array_equal(prepared.window(ALL, ALL), stretched)


@pytest.mark.parametrize("stretch", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_a_large_image_has_the_scale_of_its_sample_whole_and_by_windows(
    tmp_path, monkeypatch, small_windows, dtype, stretch
):
    monkeypatch.setattr(intensity, "SAMPLE_PIXELS", 900)  # of 7,015 pixels: every third row, column
    pixels = dim((61, 115, 3), dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(16, 16), photometric="rgb")
    prepared = prepare(open_image(tmp_path / "a.tif")[0], "RGB", stretch)
    expected = pixels
    for _ in range((dtype != "uint8") + stretch):
        low, high = np.percentile(expected[::3, ::3], PERCENTILES)
        shares = (np.clip(expected.astype(float), low, high) - low) / (high - low)
        expected = np.rint(shares * 255).astype(np.uint8)
    np.testing.assert_array_equal(prepared.window(ALL, ALL), expected)
    np.testing.assert_array_equal(
        prepared.window(slice(7, 44), slice(30, 90)), expected[7:44, 30:90]
    )
    trained = read_image(tmp_path / "a.tif", "RGB")
    trained = StretchContrast().get_transform(trained).apply_image(trained) if stretch else trained
    np.testing.assert_array_equal(trained, expected)


def test_big_endian_values_are_rescaled_alike():
    pixels = dim((20, 30), "uint16")
    assert (rescale_to_uint8(pixels.astype(">u2")) == rescale_to_uint8(pixels)).all()


def test_a_bright_and_a_dark_half_have_one_scale(tmp_path):
    pixels = dim((128, 256), "uint16") // 8
    pixels[:, 128:] += 40_000
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(64, 64), compression="zlib")
    prepared = prepare(open_image(tmp_path / "a.tif")[0], "L", False)
    dark = prepared.window(ALL, slice(0, 128))
    bright = prepared.window(ALL, slice(128, 256))
    assert dark.max() < 60
    assert bright.min() > 180
    both = np.concatenate([dark, bright], axis=1)
    assert (both == read_image(tmp_path / "a.tif", "L")).all()


def test_uint8_without_stretching_is_not_read():
    source = from_array(dim((20, 30), "uint8"))
    object.__setattr__(source, "read", None)
    assert prepare(source, "RGB", False).shape == (20, 30)
    with pytest.raises(TypeError):
        prepare(source, "RGB", True)


def test_nan_and_unknown_formats_are_refused():
    pixels = dim((20, 30), "float32")
    pixels[7, 8] = np.nan
    with pytest.raises(DatasetError, match=r"x: holds NaN"):
        prepare(from_array(pixels, "x"), "RGB", False)
    with pytest.raises(ConfigError, match="Did you mean 'RGB'"):
        prepare(from_array(pixels), "RGBA", False)


def test_channels_have_scales_of_their_own_whatever_their_depth(tmp_path):
    random = np.random.default_rng(0)
    deep = random.integers(0, 60000, (2, 40, 50)).astype(np.uint16)
    deep[1] //= 256
    shallow = (deep // np.array([256, 1], np.uint16)[:, None, None]).astype(np.uint8)
    about = {"imagej": True, "metadata": {"axes": "CYX"}}
    tifffile.imwrite(tmp_path / "deep.tif", deep, **about)
    tifffile.imwrite(tmp_path / "shallow.tif", shallow, **about)
    found = read_image(tmp_path / "deep.tif", "CHANNELS")
    assert found.shape == (40, 50, 2)
    for channel in range(2):
        expected = rescale_to_uint8(deep[channel])
        np.testing.assert_array_equal(found[:, :, channel], expected)
    other = read_image(tmp_path / "shallow.tif", "CHANNELS")
    assert np.abs(found.astype(int) - other).max() <= 2  # 8 bits have 230 steps there.
    picture = read_picture(tmp_path / "deep.tif")
    np.testing.assert_array_equal(picture[:, :, :2], found)
    assert not picture[:, :, 2].any()
