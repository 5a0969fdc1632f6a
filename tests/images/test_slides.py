"""Slides are read by OpenSlide, window by window, with its pixel size."""

import sys

import numpy as np
import openslide
import pytest
import tifffile
from image_files import noise, refusal

from unet_sharp_det.images.source import open_image


@pytest.fixture
def slide(tmp_path):
    """A tiled pyramid, which OpenSlide knows as generic-tiff, and its pixels."""
    pixels = noise(300, 500, 3)
    path = tmp_path / "a.bif"
    centimetre = {"resolution": (20_000, 40_000), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        for step in (1, 2):
            level = pixels[::step, ::step]
            tiff.write(level, tile=(64, 64), photometric="rgb", subfiletype=step - 1, **centimetre)
    assert openslide.OpenSlide.detect_format(path) == "generic-tiff"
    return path, pixels


def test_windows_at_full_resolution(slide):
    path, pixels = slide
    (source,) = open_image(path)
    assert (source.shape, source.channels, source.dtype) == ((300, 500), 3, np.uint8)
    assert source.pixel_size == (0.25, 0.5)  # micrometres
    window = source.window(slice(37, 290), slice(101, 499))
    np.testing.assert_array_equal(window, pixels[37:290, 101:499])
    np.testing.assert_array_equal(source.window(slice(0, 9), slice(0, 9)), pixels[:9, :9])


def test_what_was_not_scanned_has_the_colour_of_the_background(slide, monkeypatch):
    (source,) = open_image(slide[0])
    original = openslide.OpenSlide.read_region

    def read_region(*args):
        region = original(*args)
        region.putpixel((2, 1), (0, 0, 0, 0))
        return region

    monkeypatch.setattr(openslide.OpenSlide, "read_region", read_region)
    assert source.window(slice(0, 4), slice(0, 4))[1, 2].tolist() == [255, 255, 255]


def test_refusals(slide, tmp_path, monkeypatch):
    path, _ = slide
    broken = tmp_path / "b.mrxs"
    broken.write_bytes(b"no slide")
    assert "b.mrxs: cannot be read as a slide" in refusal(broken)
    assert "cannot be read as a slide" in refusal(tmp_path / "none.vms")
    (source,) = open_image(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 8)
    with pytest.raises(ValueError, match="a.bif: cannot be decoded"):
        source.window(slice(200, 300), slice(0, 500))
    monkeypatch.setitem(sys.modules, "openslide", None)
    assert refusal(path).endswith("Run: pip install 'unet_sharp_det[slides]'")
