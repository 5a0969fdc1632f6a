"""Images of every depth and number of channels, read as uint8."""

import os

import cv2
import numpy as np
import pytest
from detectron2.data import detection_utils
from PIL import Image, ImageOps

from unet_sharp_det.errors import ConfigError, DatasetError
from unet_sharp_det.images import decoding
from unet_sharp_det.images.decoding import decode, read_image, rescale_to_uint8


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


def test_gray_becomes_three_equal_channels_or_stays_one(tmp_path, write_png, rgba):
    gray = rgba()[:, :, 0]
    path = write_png(tmp_path / "a.png", gray)
    assert (read_image(path, "BGR") == gray[:, :, None]).all()
    assert read_image(path, "BGR").shape == (12, 16, 3)
    assert (read_image(path, "L") == gray[:, :, None]).all()
    assert read_image(path, "L").shape == (12, 16, 1)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_is_rescaled_between_the_percentiles(tmp_path, suffix):
    pixels = np.arange(10_000, dtype=np.uint16).reshape(100, 100) + 300
    path = tmp_path / f"a.{suffix}"
    assert cv2.imwrite(str(path), pixels)
    image = read_image(path, "BGR").reshape(-1, 3)
    low, high = 300 + 0.01 * 9999, 300 + 0.998 * 9999
    expected = np.clip((pixels.reshape(-1) - low) / (high - low) * 255, 0, 255)
    assert image.dtype == np.uint8
    assert np.abs(image - expected[:, None]).max() <= 0.51
    assert (image[:99] == 0).all()
    assert (image[-19:] == 255).all()
    assert len(np.unique(image)) == 256


def test_pil_would_have_lost_the_16_bit_image(tmp_path, write_png):
    pixels = np.linspace(256, 4095, 400).astype(np.uint16).reshape(20, 20)
    path = write_png(tmp_path / "a.png", pixels)
    assert np.unique(np.asarray(Image.open(path).convert("RGB"))).size < 20
    assert np.unique(read_image(path, "RGB")).size > 200


def test_16_bit_colours_share_one_scale(tmp_path, write_png):
    pixels = np.zeros((10, 10, 3), np.uint16)
    pixels[:, :5] = (1000, 2000, 4000)
    image = read_image(write_png(tmp_path / "a.png", pixels), "BGR")
    assert image[0, 0].tolist() == [64, 128, 255]


def test_float_images_are_rescaled_and_nan_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    pixels = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    cv2.imwrite(str(path), pixels)
    assert read_image(path, "L").max() == 255
    pixels[3, 3] = np.nan
    cv2.imwrite(str(path), pixels)
    with pytest.raises(DatasetError, match=r"a\.tif: holds NaN"):
        read_image(path, "L")


def test_few_bright_pixels_on_a_flat_ground_stay_visible():
    pixels = np.full((100, 100), 7, np.uint16)
    pixels[0, :3] = 1007
    scaled = rescale_to_uint8(pixels)
    assert (scaled[0, :3] == 255).all()
    assert scaled.sum() == 3 * 255


def test_a_constant_image_becomes_black():
    assert (rescale_to_uint8(np.full((4, 4), 500, np.uint16)) == 0).all()


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_a_rotten_file_is_named(tmp_path, content):
    path = tmp_path / "rotten.png"
    path.write_bytes(content)
    for read in (decode, lambda path: read_image(path, "BGR")):
        with pytest.raises(DatasetError, match=r"rotten\.png.*corrupt"):
            read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.png.*does not exist"):
        read_image(tmp_path / "none.png", "BGR")


def test_another_format_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"INPUT\.FORMAT: 'RGBA'.*Did you mean 'RGB'"):
        read_image(tmp_path / "a.png", "RGBA")


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_names_that_are_no_utf_8(tmp_path):
    path = tmp_path / os.fsdecode(b"10\xb5m.png")
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    assert (decode(path) == pixels).all()
    assert (read_image(path, "L")[:, :, 0] == pixels).all()
    path.write_bytes(b"no image")
    with pytest.raises(DatasetError, match="corrupt"):
        decode(path)


def test_a_buffer_too_large_for_opencv_is_read_from_the_file(tmp_path, monkeypatch):
    path = tmp_path / os.fsdecode(b"10\xb5m.png" if os.name == "posix" else b"10um.png")
    path.write_bytes(cv2.imencode(".png", np.eye(4, dtype=np.uint8))[1].tobytes())
    monkeypatch.setattr(decoding, "_OPENCV_BYTES", 20)
    monkeypatch.setattr(cv2, "imdecode", None)
    assert (decode(path) == np.eye(4)).all()


@pytest.mark.parametrize("tag", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, tag):
    exif = Image.Exif()
    exif[274] = tag
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    turned = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    assert (read_image(tmp_path / "a.png", "L")[:, :, 0] == turned).all()
    Image.fromarray(pixels).save(tmp_path / "a.tif", tiffinfo={274: tag})
    assert (read_image(tmp_path / "a.tif", "L")[:, :, 0] == turned).all()


def test_the_limit_of_pixels_can_be_moved(tmp_path, write_png, monkeypatch):
    path = write_png(tmp_path / "a.png", np.zeros((3, 4), np.uint8))
    with pytest.raises(DatasetError, match=r"3 x 4 pixels.*at most 11 are"):
        decode(path, limit=11)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 11)
    assert decode(path, limit=12).shape == (3, 4)
    monkeypatch.setattr(decoding, "_OPENCV_PIXELS", 11)
    with pytest.raises(DatasetError, match="at most 11 are"):
        decode(path, limit=2**40)


def test_opencv_says_nothing_beside_the_error(tmp_path, capfd):
    level = cv2.utils.logging.getLogLevel()
    for content in (b"\x89PNG\r\n\x1a\n", b"II*\0\xff\xff\xff\xff"):
        (tmp_path / "rotten").write_bytes(content)
        assert cv2.imdecode(np.frombuffer(content, np.uint8), -1) is None
        assert capfd.readouterr().err
        with pytest.raises(DatasetError):
            decode(tmp_path / "rotten")
        assert capfd.readouterr().err == ""
    assert cv2.utils.logging.getLogLevel() == level
