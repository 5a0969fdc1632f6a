"""CZI is read by Zeiss' own library, which also writes what is read here."""

import sys

import numpy as np
import pytest
from image_files import noise, refusal
from pylibCZIrw import czi

from unet_sharp_det.errors import UserError
from unet_sharp_det.images.source import ReadOptions, open_image


@pytest.fixture
def stack(tmp_path):
    """Two channels of three planes of 16 bits, 40 x 50 pixels of .5 x .3 micrometres."""
    pixels = np.random.default_rng(0).integers(0, 60_000, (2, 3, 40, 50)).astype(np.uint16)
    path = tmp_path / "a.czi"
    with czi.create_czi(str(path)) as file:
        for channel, z in np.ndindex(2, 3):
            file.write(pixels[channel, z][..., None], plane={"C": channel, "Z": z, "T": 0})
        names = {0: "DAPI", 1: "GFP"}
        file.write_metadata("a", channel_names=names, scale_x=0.3e-6, scale_y=0.5e-6)
    return path, pixels


@pytest.fixture
def scenes(tmp_path):
    """Two colour scenes in different places, of different sizes."""
    pixels = noise(40, 50, 3)
    path = tmp_path / "b.czi"
    with czi.create_czi(str(path)) as file:
        for scene, (rows, corner) in enumerate([(40, (0, 0)), (20, (500, 300))]):
            bgr = np.ascontiguousarray(pixels[:rows, :, ::-1])
            file.write(bgr, plane={"C": 0, "Z": 0, "T": 0}, scene=scene, location=corner)
    return path, pixels


def test_planes_channels_and_sizes(stack):
    path, pixels = stack
    planes = open_image(path, ReadOptions(channels=("gfp",)))
    assert [plane.suffix for plane in planes] == ["_z000", "_z001", "_z002"]
    assert planes[0].channel_names == ("DAPI", "GFP")
    assert planes[0].pixel_size == pytest.approx((0.5, 0.3))
    window = planes[2].window(slice(3, 30), slice(10, 50))
    assert window.dtype == np.uint16
    np.testing.assert_array_equal(window[..., 0], pixels[1, 2, 3:30, 10:50])
    both = planes[2].with_all_channels().window(slice(0, 40), slice(0, 50))
    np.testing.assert_array_equal(both, np.moveaxis(pixels[:, 2], 0, 2))


def test_a_scene_is_an_image_in_red_green_and_blue(scenes):
    path, pixels = scenes
    for series, expected in enumerate([pixels, pixels[:20]]):
        (source,) = open_image(path, ReadOptions(series=series))
        assert (source.shape, source.channels) == (expected.shape[:2], 3)
        assert source.series_count == 2
        window = source.window(slice(5, 18), slice(7, 44))
        np.testing.assert_array_equal(window, expected[5:18, 7:44])
    with pytest.raises(UserError, match=r"b\.czi.*2"):
        open_image(path, ReadOptions(series=2))


def test_what_the_microscope_left_out_is_white_in_colours(tmp_path):
    path, pixels = tmp_path / "a.czi", noise(10, 10, 3)
    with czi.create_czi(str(path)) as file:
        for x in (0, 20):
            file.write(pixels, plane={"C": 0, "Z": 0, "T": 0}, location=(x, 0))
    (source,) = open_image(path)
    assert source.shape == (10, 30)
    assert (source.window(slice(0, 10), slice(10, 20)) == 255).all()


def test_refusals(stack, tmp_path, monkeypatch):
    broken = tmp_path / "b.czi"
    broken.write_bytes(b"no image")
    assert "b.czi: cannot be read as Zeiss CZI" in refusal(broken)
    monkeypatch.setitem(sys.modules, "pylibCZIrw.czi", None)
    with pytest.raises(UserError, match=r"a\.czi: Zeiss CZI takes.*pip install"):
        open_image(stack[0])
