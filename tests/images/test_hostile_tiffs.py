"""TIFF files that are made to take memory or time without end: refused by name, and at once."""

import os
import struct
import tracemalloc
from itertools import product

import imagecodecs
import numpy as np
import pytest
import tifffile
from image_files import noise, refusal, whole, write

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.images import directories, tiff_pixels
from unet_sharp_det.images.source import open_image

OWN_TAG = 65000


def retag(path, old, new):
    """Rename the tag of the first page that has an old code."""
    content = bytearray(path.read_bytes())
    place = content.index(struct.pack("<HH", old, 4))
    struct.pack_into("<H", content, place, new)
    path.write_bytes(content)


def tags(path, *rows, data=b""):
    """Write a TIFF of one page by hand; rows are (code, type, count, value), None: the data."""
    end = 8 + 2 + 12 * len(rows) + 4
    entries = b"".join(
        struct.pack("<HHII", *row[:3], end if row[3] is None else row[3]) for row in rows
    )
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(rows)) + entries + bytes(4) + data)
    return path


def pointing_back(path):
    write(path, noise(130, 8, 8), metadata=None, photometric="minisblack")
    with tifffile.TiffFile(path) as tiff:
        first, last = tiff.pages[10].offset, tiff.pages[-1].offset
    content = bytearray(path.read_bytes())
    (count,) = struct.unpack_from("<H", content, last)
    struct.pack_into("<I", content, last + 2 + 12 * count, first)
    path.write_bytes(content)


def empty_tiles(path):
    size, tile, count = 2**20, 2**14, 2**12
    rows = [(256, 4, 1, size), (257, 4, 1, size), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1)]
    rows += [(322, 4, 1, tile), (323, 4, 1, tile), (324, 4, count, None), (325, 4, count, None)]
    tags(path, *rows, data=bytes(4 * count))


def two_widths(path):
    write(path, noise(64, 64), metadata=None, extratags=[(OWN_TAG, "I", 1, 4096, True)])
    retag(path, OWN_TAG, 256)


def many_copies(path):
    """Its pages below the first one are 50,000 times itself."""
    pages = (OWN_TAG, "I", 50_000, (8,) * 50_000, True)
    write(path, noise(64, 64), metadata=None, extratags=[pages])
    retag(path, OWN_TAG, 330)


def width_of_fractions(path):
    write(path, noise(64, 64), metadata=None)
    content = path.read_bytes()
    path.write_bytes(
        content.replace(
            struct.pack("<HHII", 256, 4, 1, 64), struct.pack("<HHIf", 256, 11, 1, 64)
        ).replace(struct.pack("<HHIHH", 256, 3, 1, 64, 0), struct.pack("<HHIf", 256, 11, 1, 64))
    )


def pages_of_two_kinds(path):
    """The second page is compressed and the metadata take both for alike."""
    with tifffile.TiffWriter(path) as writer:
        writer.write(noise(8, 8), metadata=None, description="ImageJ=1.11a\nimages=2\nslices=2\n")
        writer.write(noise(8, 8), metadata=None, compression="zlib")


def seven_bits(path):
    write(path, noise(64, 64), compression="png", metadata=None)
    content = path.read_bytes()
    path.write_bytes(
        content.replace(struct.pack("<HHIH", 258, 3, 1, 8), struct.pack("<HHIH", 258, 3, 1, 7))
    )


FILES = {
    "pages in a ring": (pointing_back, "points back"),
    "2**40 pixels of empty tiles": (empty_tiles, "more than its bytes can hold"),
    "two widths": (two_widths, "ImageWidth twice"),
    "pages below pages": (many_copies, "bytes of memory"),
    "a width of fractions": (width_of_fractions, "ImageWidth is no whole number"),
    "pages of two kinds": (pages_of_two_kinds, "differ in size, type or compression"),
    "values beyond the bits": (seven_bits, "beyond its palette of colours or its bits"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_has_no_end_or_no_sense_is_refused(tmp_path, name):
    make, message = FILES[name]
    make(tmp_path / "a.tif")
    tracemalloc.start()
    assert message in refusal(tmp_path / "a.tif")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**25


def test_the_tags_of_all_pages_are_bounded(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", noise(5, 8, 8), metadata=None, photometric="minisblack")
    whole(open_image(path)[4])
    monkeypatch.setattr(directories, "_MOST_TAGS", 40)
    assert "more than 40 tags" in refusal(path)


CODECS = {
    "jpeg8": 7,
    "png": 34933,
    "webp": 50001,
    "jpegxl": 50002,
    "jpeg2k": 34712,
    "jpegxr": 34934,
}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("settings", [{"tile": (64, 64)}, {}])
def test_a_huge_image_in_a_small_strip_or_tile_is_not_decoded(tmp_path, codec, settings):
    options = {"effort": 1} if codec == "jpegxl" else {}
    data = getattr(imagecodecs, f"{codec}_encode")(np.zeros((1024, 1024, 3), np.uint8), **options)
    shared = {"photometric": "rgb", "compression": CODECS[codec], "metadata": None, **settings}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, iter([data]), shape=(64, 64, 3), dtype="uint8", **shared)
    tracemalloc.start()
    with pytest.raises(DatasetError, match=r"a\.tif.*image of another size"):
        whole(open_image(path)[0])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**21


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_half_a_strip_is_no_strip_whatever_ends_it(tmp_path, codec, end):
    data = getattr(imagecodecs, f"{codec}_encode")(noise(64, 64, 3))
    shared = {"shape": (64, 64, 3), "dtype": "uint8", "photometric": "rgb", "metadata": None}
    path, shared = tmp_path / "a.tif", {**shared, "compression": CODECS[codec]}
    tifffile.imwrite(path, iter([data]), **shared)
    whole(open_image(path)[0])
    tifffile.imwrite(path, iter([data[: len(data) // 2] + end]), **shared)
    assert "cannot be decoded" in refusal(path)


def test_a_flat_jpeg_is_whole(tmp_path):
    path = write(tmp_path / "a.tif", np.full((64, 64), 128, np.uint8), compression="jpeg")
    assert (whole(open_image(path)[0]) == 128).all()


@pytest.mark.parametrize("settings", [{}, {"compression": "zlib"}])
def test_a_file_that_gets_shorter_after_it_was_opened_is_an_error(tmp_path, settings):
    path = write(tmp_path / "a.tif", noise(300, 400), **settings)
    (source,) = open_image(path)
    os.truncate(path, 60_000)
    with pytest.raises(DatasetError, match=r"a\.tif.*truncated"):
        whole(source)


@pytest.mark.parametrize("columns", [slice(None), slice(2000, 3000)])
def test_a_file_that_gets_shorter_while_a_window_is_read_is_an_error(
    tmp_path, monkeypatch, columns
):
    path = write(tmp_path / "a.tif", noise(300, 5000))
    (source,) = open_image(path)

    def cut_at_row_100(*ranges):
        for number, index in enumerate(product(*ranges)):
            if number == 100:
                os.truncate(path, 60_000)
            yield index

    monkeypatch.setattr(tiff_pixels, "product", cut_at_row_100)
    with pytest.raises(DatasetError, match=r"a\.tif: is truncated"):
        source.window(slice(None), columns)


def test_a_pipe_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "a.tif")
    assert "is a pipe or device" in refusal(tmp_path / "a.tif")


def test_metadata_that_cannot_be_read_refuse_no_image(tmp_path, caplog):
    about = "Aperio Image Library v10.0\n64x64 [0,0 64x64] |AppMag = 20|MPP = 0.5.5"
    broken = {"a.svs": about, "b.tif": '{"shape": [64, 64}', "c.tiff": "<DataObject</DataObject>"}
    for name, description in broken.items():
        about = {"description": description, "software": "Philips DP v1.0"}
        path = write(tmp_path / name, noise(64, 64), metadata=None, **about)
        (source,) = open_image(path)
        assert (whole(source)[:, :, 0] == noise(64, 64)).all()
        assert source.pixel_size is None
        assert f"{name}: " in caplog.text
