"""Files that are missing, broken or of an unknown kind are errors that name them."""

import numpy as np
import pytest
import tifffile
from image_files import ALL, COLOUR, GRAY, TILED, contents, noise, read, refusal, whole, write
from PIL import Image

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.images.source import ReadOptions, open_image


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_nan_and_infinity_are_found_in_the_window_that_holds_them(tmp_path, compression):
    for value in (np.nan, np.inf):
        array = noise(3, *GRAY, dtype="float32")
        array[1, 40, 60] = value
        sources = open_image(
            write(tmp_path / "a.tif", array, photometric="minisblack", compression=compression)
        )
        whole(sources[0])
        sources[1].window(slice(0, 30), ALL)
        with pytest.raises(DatasetError, match=r"a\.tif\[page=1\]: holds NaN"):
            whole(sources[1])
    with pytest.raises(DatasetError, match="holds NaN"):
        whole(open_image(tmp_path / "a.tif", ReadOptions(planes="max"))[0])


def _no_page(path):
    path.write_bytes(b"II*\0\0\0\0\0")


def _cmyk(path):
    write(path, noise(*GRAY, 4), photometric="separated")


def _later_file_is_missing(path):
    write(path, noise(2, *GRAY), ome=True, metadata={"axes": "TYX"}, compression="zlib")
    path.write_bytes(path.read_bytes().replace(b'SizeT="2"', b'SizeT="3"'))


def _noise_for_data(path):
    write(path, noise(*GRAY), compression="zlib")
    data = bytearray(path.read_bytes())
    data[-900:-600] = bytes(300)
    path.write_bytes(data)


BAD_FILES = {
    "missing": (lambda path: None, "does not exist"),
    "folder": (lambda path: path.mkdir(), "Is a directory"),
    "empty": (lambda path: path.write_bytes(b""), "no image"),
    "text": (lambda path: path.write_text("label,area\n1,2\n"), "no image"),
    "PNG signature": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "corrupt"),
    "TIFF signature": (lambda path: path.write_bytes(b"II*\0"), "as TIFF"),
    "no page": (_no_page, "TIFF"),
    "complex": (lambda path: write(path, np.zeros(GRAY, complex)), "complex128 cannot be read"),
    "CMYK": (_cmyk, "SEPARATED is not read"),
    "corrupt tile": (_noise_for_data, "strip or tile 0 of page 0 cannot be decoded"),
    "missing pages": (_later_file_is_missing, "lack"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_named(tmp_path, name):
    make, message = BAD_FILES[name]
    make(tmp_path / "bad.tif")
    with pytest.raises(DatasetError, match=rf"bad\.tif.*{message}"):
        read(tmp_path / "bad.tif")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.ZVI", "Zeiss ZVI"), ("a.lof", "Leica LOF"), ("a.dcm", "DICOM")],
)
def test_formats_of_microscopes_are_named_with_a_way_to_convert_them(tmp_path, name, kind):
    Image.fromarray(noise(*COLOUR)).save(tmp_path / name, "JPEG")
    with pytest.raises(DatasetError, match=rf"{name}: is a {kind} file.*OME-TIFF.*bfconvert"):
        open_image(tmp_path / name)


def test_of_two_formats_that_are_tiffs_one_is_only_a_preview(tmp_path):
    assert len(open_image(write(tmp_path / "a.scn", noise(*GRAY)))) == 1
    assert "is a Olympus VSI file" in refusal(write(tmp_path / "a.vsi", noise(*GRAY)))


TRUNCATED = {
    "raw.tif": {},
    "pages.tif": {"compression": "zlib", "metadata": None},
    "tiles.tif": {"compression": "lzw", **TILED},
    "stack.ome.tif": {"ome": True, "compression": "zlib", "metadata": {"axes": "ZYX"}},
    "imagej.tif": {"imagej": True},
    "jpeg.tif": {"compression": "jpeg"},
}


@pytest.mark.parametrize("name", TRUNCATED)
def test_a_truncated_file_never_gives_half_an_image(tmp_path, name):
    path = tmp_path / name
    array = noise(3, 64, 64)
    write(path, array, photometric="minisblack", **TRUNCATED[name])
    content, expected = path.read_bytes(), contents(path)
    refused = 0
    for length in np.linspace(0, len(content) - 10, 10).astype(int):
        path.write_bytes(content[:length])
        if message := refusal(path):
            assert name in message
            refused += 1
        else:  # a tag that nothing is read from
            assert contents(path) == expected
    assert refused >= 9


@pytest.mark.parametrize(
    ("settings", "message"),
    [({}, "ends before its pixels do"), (TILED, "page 0 is truncated")],
)
def test_lost_pixels_are_found_when_the_file_is_opened(tmp_path, settings, message):
    path = write(tmp_path / "a.tif", noise(256, 256), compression=None, **settings)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=rf"a\.tif.*{message}"):
        open_image(path)


def test_random_bytes_give_an_image_or_a_named_error(tmp_path):
    path = write(tmp_path / "a.tif", noise(2, 64, 64, dtype="uint16"), compression="zlib", **TILED)
    content, random = path.read_bytes(), np.random.default_rng(0)
    messages = []
    for _ in range(60):
        broken = bytearray(content)
        for place in random.integers(0, 600, 2):
            broken[place] = random.integers(256)
        path.write_bytes(broken)
        messages.append(refusal(path, max_pixels=2**20))
    assert 0 < sum(map(bool, messages)) < 60
    assert all("a.tif" in message for message in messages if message)


def test_tifffile_logs_nothing_beside_the_error(tmp_path, caplog):
    path = tmp_path / "a.tif"
    _later_file_is_missing(path)
    with tifffile.TiffFile(path) as tiff:
        len(tiff.series)
    assert "tifffile" in {record.name for record in caplog.records}
    caplog.clear()
    refusal(path)
    assert caplog.records == []
    with tifffile.TiffFile(path) as tiff:  # others are not silenced
        len(tiff.series)
    assert caplog.records
