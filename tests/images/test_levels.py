"""Levels of a pyramid: which there are, which is read for a scale, and where objects lie."""

import functools

import cv2
import numpy as np
import pytest
import tifffile
from image_files import noise
from prediction_models import BrightBlobs, predictor_of
from zarr_files import write_v04

from unet_sharp_det.images.intensity import prepare
from unet_sharp_det.images.source import ReadOptions, open_image


def write_tiff(path, pixels, factors=(2, 4), below=True, **options):
    """Write a tiled pyramid of every k-th pixel, in SubIFDs or as further pages."""
    options = {"tile": (32, 32), "photometric": "rgb", **options}
    with tifffile.TiffWriter(path, ome=below) as tiff:
        tiff.write(pixels, subifds=len(factors) if below else None, **options)
        for k in factors:
            tiff.write(pixels[::k, ::k], subfiletype=1, **options)
    return path


def write_zarr(path, pixels):
    return write_v04(path, pixels.transpose(2, 0, 1), "cyx", chunks=(1, 32, 32))


@pytest.mark.parametrize(
    ("name", "write", "shape", "factors"),
    [
        ("a.tif", write_tiff, (135, 203), [2, 4]),
        (
            *("a.tif", functools.partial(write_tiff, below=False, compression="deflate")),
            *((135, 203), [2, 4]),
        ),
        ("a.bif", functools.partial(write_tiff, below=False), (136, 204), [2, 4]),  # by OpenSlide
        ("a.zarr", write_zarr, (135, 203), [2]),
    ],
)
def test_windows_of_levels(name, write, shape, factors, tmp_path):
    """Of an odd size: what is no whole pixel of the level is left out."""
    pixels = noise(*shape, 3)
    (source,) = open_image(write(tmp_path / name, pixels))
    assert sorted(source.levels) == factors
    for factor in factors:
        level = source.reduced(factor)
        assert level.shape == tuple(side // factor for side in shape)
        expected = pixels[::factor, ::factor][7:20, 11:30]
        np.testing.assert_array_equal(level.window(slice(7, 20), slice(11, 30)), expected)
        seen = prepare(source, "BGR", False, factor)
        rows, columns = slice(7 * factor, 20 * factor), slice(11 * factor, 30 * factor)
        assert seen.shape == shape
        np.testing.assert_array_equal(seen.window(rows, columns), expected[:, :, ::-1])


def test_planes_and_channels_of_levels(tmp_path):
    array = noise(2, 3, 40, 60)
    path = write_v04(tmp_path / "a.zarr", array, "czyx", chunks=(1, 1, 16, 16))
    level = open_image(path, ReadOptions(channels=(1,)))[2].with_all_channels().reduced(2)
    window = level.window(slice(0, 20), slice(0, 30))
    np.testing.assert_array_equal(window.transpose(2, 0, 1), array[:, 2, ::2, ::2])


def test_the_coarsest_level_that_has_what_is_seen(tmp_path):
    (source,) = open_image(write_tiff(tmp_path / "a.tif", noise(128, 128, 3)))
    scales = {2.0: 1, 1.0: 1, 0.52: 1, 0.506: 2, 0.5: 2, 0.26: 2, 0.25: 4, 0.01: 4}
    assert {scale: source.reduction_for(scale) for scale in scales} == scales


@pytest.mark.parametrize(
    "reduced",
    [(54, 80), (64, 40), (5, 8), (128, 80)],  # 2.4 times; 2 and 4 times; 26 and 20 times; equal
)
def test_what_is_no_level(reduced, tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(noise(128, 160), subifds=1)
        tiff.write(noise(*reduced), subfiletype=1)
    assert open_image(path)[0].levels == {}


def test_a_damaged_level_costs_only_itself(tmp_path):
    path = write_tiff(tmp_path / "a.tif", noise(64, 64, 3))
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.series[0].levels[2].keyframe.tags["TileOffsets"]
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.series[0].levels[2].keyframe.tags["TileOffsets"].overwrite([10**9] * tag.count)
    assert sorted(open_image(path)[0].levels) == [2]


@pytest.fixture
def blobs(tmp_path):
    """A pyramid whose levels differ, so that objects tell which one was read: discs of 24 pixels,
    and in the finest one alone a single bright pixel between them."""
    pixels = np.zeros((333, 470, 3), np.uint8)
    for y in range(20, 320, 60):
        for x in range(20, 460, 50):
            cv2.circle(pixels, (x, y), 12, (200,) * 3, -1)
    pixels[51, 51] = 255
    return write_tiff(tmp_path / "a.tif", pixels)


@pytest.mark.parametrize("tile_size", [128, 512])
@pytest.mark.parametrize(("scale", "count"), [(1.0, 46), (0.5, 45), (0.25, 45)])
def test_objects_lie_in_the_finest_level(blobs, tile_size, scale, count):
    finder = BrightBlobs()
    predictor = predictor_of(finder, scale=scale, tile_size=tile_size, tile_overlap=48)
    found = predictor(blobs)
    assert len(found) == count
    assert found.shape == (333, 470)
    assert max(finder.largest) == round(min(tile_size, 470) * scale - 0.3)
    masks = [each.label_map() > 0 for each in (found, predictor_of(BrightBlobs())(blobs))]
    assert np.logical_and(*masks).sum() > 0.7 * np.logical_or(*masks).sum()


@pytest.mark.parametrize(("colour", "windows"), [((120, 60, 160), 1), ((120, 120, 120), 4)])
def test_background_of_a_stained_slide_is_passed_over(colour, windows, tmp_path):
    """Of a gray one it is not, for cells may have no colour."""
    pixels = 235 + noise(256, 256, 3) % np.uint8(3)
    pixels[10:90, 10:90] = colour
    finder = BrightBlobs()
    path = write_tiff(tmp_path / "a.tif", pixels)
    predictor_of(finder, tile_size=160, tile_overlap=64)(path)
    assert sum(finder.batches) == windows
