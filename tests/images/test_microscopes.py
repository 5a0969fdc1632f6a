"""ND2 and LIF are read by libraries that write nothing: the files are made by their layouts."""

import sys

import numpy as np
import pytest
from image_files import noise, read, refusal
from microscope_files import write_lif, write_nd2

from unet_sharp_det.images.source import ReadOptions, open_image

NAMES = ("DAPI", "GFP")


@pytest.fixture
def nd2(tmp_path):
    """Two times of two positions of three planes, as stored (12, 40, 50, 2 channels)."""
    pytest.importorskip("nd2")
    frames = noise(12, 40, 50, 2, dtype="uint16")
    loops = (("T", 2), ("P", 2), ("Z", 3))
    return write_nd2(tmp_path / "a.nd2", frames, loops=loops, names=NAMES, pixel_size=0.3), frames


@pytest.fixture
def lif(tmp_path):
    """A stack of two times of three planes, and a colour image that is stored blue first."""
    pytest.importorskip("liffile")  # which needs Python 3.11
    stack, colours = noise(2, 3, 2, 40, 50, dtype="uint16"), noise(30, 20, 3)
    images = [
        ("TZCYX", stack, NAMES, (0.5e-6, 0.3e-6)),
        ("YXS", colours, ("", "", ""), (1e-6, 1e-6)),
    ]
    return write_lif(tmp_path / "a.lif", images), stack, colours


def check_stack(path, pixels, pixel_size, **options):
    """Compare the second channel, and both of one window, with pixels (T, Z, C, Y, X)."""
    planes = open_image(path, ReadOptions(channels=("gfp",), **options))
    assert [plane.suffix for plane in planes] == [
        f"_t{time:03d}_z{z:03d}" for time in range(2) for z in range(3)
    ]
    assert planes[0].channel_names == NAMES
    assert planes[0].series_count == 2
    assert planes[0].pixel_size == pytest.approx(pixel_size)
    window = planes[4].window(slice(3, 30), slice(10, 50))
    assert window.dtype == np.uint16
    np.testing.assert_array_equal(window[..., 0], pixels[1, 1, 1, 3:30, 10:50])
    both = planes[5].with_all_channels().window(slice(0, 40), slice(0, 50))
    np.testing.assert_array_equal(both, np.moveaxis(pixels[1, 2], 0, 2))


def test_nd2(nd2):
    path, frames = nd2
    stacks = np.moveaxis(frames.reshape(2, 2, 3, 40, 50, 2), 5, 3)
    for position in (0, 1):
        check_stack(path, stacks[:, position], (0.3, 0.3), series=position)


@pytest.mark.parametrize("compressed", [False, True])
def test_nd2_of_one_colour_frame(tmp_path, compressed):
    pytest.importorskip("nd2")
    frame = noise(1, 40, 50, 3)
    path = write_nd2(tmp_path / "a.nd2", frame, compressed=compressed)
    (source,) = open_image(path)
    assert (source.shape, source.channels, source.pixel_size) == ((40, 50), 3, None)
    window = source.window(slice(5, 18), slice(7, 44))
    np.testing.assert_array_equal(window, frame[0, 5:18, 7:44, ::-1])


def test_lif(lif):
    path, stack, colours = lif
    check_stack(path, stack, (0.5, 0.3))
    (image,) = read(path, series=1)
    np.testing.assert_array_equal(image, colours[..., ::-1])


def test_lif_with_padded_rows(tmp_path):
    pytest.importorskip("liffile")
    stored = noise(30, 24, 3)
    image = ("YXS", stored[:, :20], ("", "", ""), (1e-6, 1e-6))
    path = write_lif(tmp_path / "a.lif", [image], data=stored)
    np.testing.assert_array_equal(read(path)[0], stored[:, :20, ::-1])


@pytest.mark.parametrize("kind", ["nd2", "lif"])
def test_refusals(request, monkeypatch, kind):
    path, *_ = request.getfixturevalue(kind)
    assert refusal(path, channels=(0,), series=2).endswith("Choose one of 0 to 1.")
    content = path.read_bytes()
    for length in (3, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert f"a.{kind}" in refusal(path, channels=(0,), series=1)
    package = "nd2" if kind == "nd2" else "liffile"
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"takes {package}. Run: pip install 'unet_sharp_det[microscopes]'"
    assert refusal(path).endswith(message)
