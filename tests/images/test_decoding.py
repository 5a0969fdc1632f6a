"""Images of every depth and number of channels, read as uint8."""

import os

import cv2
import numpy as np
import pytest
import tifffile
from detectron2.data import detection_utils

from unet_sharp_det.errors import DatasetError, UserError
from unet_sharp_det.images import read_image, read_labels
from unet_sharp_det.images.decoding import read_shape, read_stored
from unet_sharp_det.images.intensity import rescale_to_uint8


def test_real_images_read_as_detectron2_reads_them(sample_folder):
    for path in sorted(sample_folder.glob("stage1_train/*/images/*.png"))[:8]:
        for image_format in ("BGR", "RGB"):
            expected = detection_utils.read_image(str(path), image_format)
            assert (read_image(path, image_format) == expected).all()


def test_rgb_is_bgr_reversed_and_alpha_is_dropped(tmp_path, write_png, rgba):
    path = write_png(tmp_path / "a.png", rgba() // 2)
    bgr, rgb = read_image(path, "BGR"), read_image(path, "RGB")
    assert (bgr == rgba()[:, :, :3] // 2).all()
    assert (rgb == bgr[:, :, ::-1]).all()


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_names_that_are_no_utf_8(tmp_path):
    path = tmp_path / os.fsdecode(b"10\xb5m.png")
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    assert (read_stored(path) == pixels).all()
    assert (read_image(path, "L")[:, :, 0] == pixels).all()
    path.write_bytes(b"no image")
    with pytest.raises(DatasetError, match="corrupt"):
        read_stored(path)


FACTORS = {
    "huge": np.float64(1e300),
    "tiny": np.float64(1e-300),
    "as wide as float64": np.float64(1.7e305),
    "single": np.float32(1e-40),
}


@pytest.mark.parametrize("name", FACTORS)
def test_a_factor_changes_nothing(tmp_path, name):
    pixels = np.arange(-500, 500).reshape(20, 50)
    expected = rescale_to_uint8(pixels)
    assert len(np.unique(expected)) == 256
    scaled = pixels * FACTORS[name]
    assert np.abs(rescale_to_uint8(scaled).astype(int) - expected).max() <= 1
    tifffile.imwrite(tmp_path / "a.tif", scaled)
    assert (read_image(tmp_path / "a.tif", "L")[:, :, 0] == rescale_to_uint8(scaled)).all()


@pytest.mark.parametrize(("dtype", "offset"), [("u4", 2**31), ("i4", -(2**31)), ("i8", 2**40)])
def test_an_offset_changes_nothing(tmp_path, dtype, offset):
    pixels = np.arange(1000).reshape(20, 50)
    tifffile.imwrite(tmp_path / "a.tif", (pixels + offset).astype(dtype))
    assert (read_image(tmp_path / "a.tif", "L")[:, :, 0] == rescale_to_uint8(pixels)).all()


MANY = {
    "ImageJ": (
        np.zeros((3, 20, 30), np.uint16),
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        "has 3 pages",
    ),
    "channels": (
        np.zeros((2, 20, 30), np.uint16),
        {"imagej": True, "metadata": {"axes": "CYX"}},
        "has 2 channels",
    ),
}


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("read", [read_labels, lambda path: read_image(path, "RGB")])
def test_one_plane_is_read_and_never_one_of_several(tmp_path, name, read):
    pixels, settings, message = MANY[name]
    tifffile.imwrite(tmp_path / "a.tif", pixels, **settings)
    with pytest.raises(UserError, match=rf"a\.tif: {message}.*(of their own|save|Save)"):
        read(tmp_path / "a.tif")


def test_several_images_in_one_file_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for shape in ((20, 30), (40, 50)):
            file.write(np.zeros(shape, np.uint8))
    for read in (read_labels, lambda path: read_image(path, "RGB")):
        with pytest.raises(DatasetError, match=r"a\.tif: has 2 images"):
            read(tmp_path / "a.tif")


def test_an_image_larger_than_the_limit_is_refused_before_it_is_read(tmp_path):
    tifffile.memmap(tmp_path / "a.tif", shape=(20_000, 20_000), dtype=np.uint8)  # a sparse file
    np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (20_000, 20_000))
    for read, name in ((read_image, "a.tif"), (read_labels, "a.tif"), (read_labels, "a.npy")):
        with pytest.raises(DatasetError, match="has 20000 x 20000"):
            read(tmp_path / name, *["RGB"] * (read is read_image))


def test_pixels_may_be_written_to(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 30, 3), np.uint8))
    image = read_image(tmp_path / "a.tif", "RGB")
    image[3, 4] = 7


@pytest.mark.parametrize("dtype", ["bool", "u1", ">u2", "u4", ">i4", "u8", ">f4", "f8"])
@pytest.mark.parametrize("suffix", ["tif", "npy"])
def test_labels_are_the_numbers_that_were_written(tmp_path, suffix, dtype):
    labels = np.random.default_rng(0).integers(0, 200, (20, 30)).astype(dtype)
    path = tmp_path / f"a.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(path, labels, byteorder=labels.dtype.str[0].replace("|", "<"))
    else:
        np.save(path, labels)
    found = read_labels(path)
    assert found.dtype.kind in "ui"
    assert found.dtype.isnative
    assert np.array_equal(found, labels)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e300])
def test_labels_that_are_no_whole_numbers(tmp_path, value):
    tifffile.imwrite(tmp_path / "a.tif", np.full((20, 30), value))
    with pytest.raises(DatasetError, match=r"a\.tif: holds fractions|a\.tif: holds NaN"):
        read_labels(tmp_path / "a.tif")


def test_a_tiff_by_a_relative_path_and_by_a_link(tmp_path, monkeypatch):
    labels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    (tmp_path / "sub").mkdir()
    tifffile.imwrite(tmp_path / "sub" / "a.tif", labels)
    (tmp_path / "link.tif").symlink_to("sub/a.tif")
    monkeypatch.chdir(tmp_path)
    for path in ("sub/a.tif", "link.tif", "sub/../sub/a.tif"):
        np.testing.assert_array_equal(read_labels(path), labels)
        assert read_shape(path) == (3, 4)
