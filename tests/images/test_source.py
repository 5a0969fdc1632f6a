"""Windows of image files of any kind: their values, limits and memory."""

import struct
import tracemalloc

import imagecodecs
import numpy as np
import pytest
import tifffile
from image_files import ALL, COLOUR, GRAY, TILED, noise, whole, write
from PIL import Image

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.images import formats
from unet_sharp_det.images.source import ReadOptions, from_array, open_image
from unet_sharp_det.images.tiff_pixels import ChunkedPixels

# What test_matrix.py lacks: pixels in one piece, odd strips, wide and narrow images.
FILES = {
    "uint8": (noise(*GRAY), {}),
    "int16 big-endian": (noise(*GRAY, dtype="int16"), {"byteorder": ">"}),
    "uint32": (noise(*GRAY, dtype="uint32"), {"compression": "lzw", "predictor": True, **TILED}),
    "int32": (noise(*GRAY, dtype="int32"), {"compression": "zlib", "rowsperstrip": 7}),
    "uint64": (noise(*GRAY, dtype="uint64"), {}),
    "RGB strips": (noise(*COLOUR), {"photometric": "rgb", "rowsperstrip": 8}),
    "wide": (noise(40, 5000), {}),
    "wide, 16 bit, big-endian": (noise(40, 3000, dtype="uint16"), {"byteorder": ">"}),
    "wide RGB": (noise(40, 3000, 3), {"photometric": "rgb"}),
    "a row": (noise(1, 70), {"compression": "zlib"}),
    "a column": (noise(70, 1, 3), {"photometric": "rgb", "compression": "zlib"}),
    "a pixel": (noise(1, 1), {}),
}


@pytest.mark.parametrize("name", FILES)
def test_any_window_has_the_values_that_were_written(tmp_path, name):
    array, settings = FILES[name]
    (source,) = open_image(write(tmp_path / "a.tif", array, **settings))
    expected = array.reshape(*array.shape[:2], -1)
    assert (source.name, source.suffix, source.dtype) == ("a.tif", "", array.dtype)
    assert (*source.shape, source.channels) == expected.shape
    for rows, columns in ((ALL, ALL), (slice(5, 38), slice(30, 69)), (slice(0, 1), slice(0, 1))):
        window = source.window(rows, columns)
        assert window.dtype == array.dtype
        assert window.dtype.isnative
        np.testing.assert_array_equal(window, expected[rows, columns])
    assert source.window(slice(3, 3), ALL).shape == (0, *expected.shape[1:])


def by_hand(path, numbers, bits, colours, samples=1, alpha=()):
    """Write the numbers of colours, (H, W, samples), as an uncompressed TIFF with a palette."""
    height, width = numbers.shape[:2]
    spread = numbers.reshape(height, -1, 1) >> np.arange(bits - 1, -1, -1) & 1
    pixels = np.packbits(spread.reshape(height, -1).astype(np.uint8), axis=1).tobytes()
    table = (colours.astype("<u2") * 257).T.tobytes()
    rows = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, samples, bits * (1 + (65536, 0)[samples == 1])),
    ]
    rows += [(259, 3, 1, 1), (262, 3, 1, 3), (273, 4, 1, None), (277, 3, 1, samples)]
    rows += [(278, 3, 1, height), (279, 4, 1, len(pixels)), (320, 3, colours.size, 8)]
    rows += [(338, 3, len(alpha), *alpha)] if alpha else []
    start, end = 8 + len(table) + len(pixels), 8 + len(table)
    entries = [
        struct.pack("<HHII", *row[:3], end - len(table) if row[0] == 320 else row[3] or end)
        for row in rows
    ]
    head = b"II*\0" + struct.pack("<I", start) + table + pixels
    path.write_bytes(head + struct.pack("<H", len(rows)) + b"".join(entries) + bytes(4))
    return path


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_any_bits(tmp_path, bits):
    numbers, colours = noise(20, 32) >> (8 - bits), noise(2**bits, 3, seed=1)
    (source,) = open_image(by_hand(tmp_path / "a.tif", numbers, bits, colours))
    assert (whole(source) == colours[numbers]).all()
    (source,) = open_image(tmp_path / "a.tif", ReadOptions(channels=(1,)))
    assert (whole(source)[:, :, 0] == colours[numbers][:, :, 1]).all()
    (source,) = open_image(tmp_path / "a.tif", ReadOptions(channels=(2, 0, 1)))
    assert (whole(source) == colours[numbers][:, :, [2, 0, 1]]).all()


def test_a_palette_with_alpha(tmp_path):
    numbers, colours = noise(20, 32, 2), noise(256, 3, seed=1)
    path = by_hand(tmp_path / "a.tif", numbers, 8, colours, samples=2, alpha=(2,))
    (source,) = open_image(path)
    assert (whole(source) == colours[numbers[:, :, 0]]).all()


def test_a_value_beyond_the_palette_names_the_file(tmp_path):
    path = by_hand(tmp_path / "a.tif", np.full((8, 8), 9), 8, noise(8, 3))
    with pytest.raises(DatasetError, match=r"a\.tif: has values beyond its palette"):
        whole(open_image(path)[0])


YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


@pytest.mark.parametrize(
    ("compression", "photometric", "is_ycbcr"),
    [(33003, "rgb", True), (33003, "ycbcr", True), (33005, "rgb", False), (34712, "ycbcr", True)],
)
def test_jpeg_2000_in_two_colour_spaces(tmp_path, compression, photometric, is_ycbcr):
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:], rgb[16:48, 16:48] = (200, 60, 120), (80, 40, 160)
    ycbcr = np.clip(np.rint(rgb @ YCBCR.T + [0, 128, 128]), 0, 255).astype(np.uint8)
    options = {"level": 0, "mct": False, "codecformat": "j2k", "reversible": True}
    tile = imagecodecs.jpeg2k_encode(ycbcr if is_ycbcr else rgb, **options)
    settings = {"photometric": photometric, "compression": compression, "metadata": None}
    settings |= {"shape": rgb.shape, "dtype": "uint8", "tile": (64, 64), "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "a.svs", iter([tile]), **settings)
    seen = whole(open_image(tmp_path / "a.svs")[0])
    assert np.abs(seen.astype(int) - rgb).max() <= 2


def test_arrays():
    for array, channels in ((noise(*GRAY), 1), (noise(*COLOUR), 3), (noise(*GRAY, 1), 1)):
        source = from_array(array, "x")
        assert (source.name, source.shape, source.channels) == ("x", GRAY, channels)
        assert (whole(source) == array.reshape(*GRAY, -1)).all()
    assert (whole(from_array(noise(*GRAY, 4))) == noise(*GRAY, 4)[:, :, :3]).all()
    assert set(np.unique(whole(from_array(noise(*GRAY, dtype="bool"))))) == {0, 255}
    big = noise(*GRAY, dtype="int16").astype(">i2")
    assert whole(from_array(big)).dtype == np.dtype("=i2")
    for bad in (np.zeros(5), np.zeros((0, 4)), np.zeros((4, 4, 2)), np.zeros((4, 4), complex)):
        with pytest.raises(DatasetError, match="x: "):
            from_array(bad, "x")


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((300, 400), np.uint8)).save(path)
    assert len(open_image(path, ReadOptions(max_pixels=120_000))) == 1
    monkeypatch.setattr(formats, "_decode", None)
    with pytest.raises(DatasetError, match=r"300 x 400 pixels.*most 119,999 are.*--max-pixels"):
        open_image(path, ReadOptions(max_pixels=119_999))


def test_a_large_strip_is_refused_and_a_large_tiled_image_is_not(tmp_path):
    array, options = noise(300, 400), ReadOptions(max_pixels=30_000)
    path = write(tmp_path / "a.tif", array, compression="zlib", rowsperstrip=300)
    with pytest.raises(DatasetError, match=r"strip has 300 x 400 pixels.*tiled.*--max-pixels"):
        open_image(path, options)
    for settings in ({"tile": (32, 32), "compression": "zlib"}, {"rowsperstrip": 300}):
        (source,) = open_image(write(path, array, **settings), options)
        assert (whole(source)[:, :, 0] == array).all()


def test_only_the_tiles_that_a_window_touches_are_decoded(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", noise(2, 96, 96), compression="zlib", tile=(32, 32))
    decoded = []
    original = ChunkedPixels._read_chunk

    def count(self, page, tile):
        decoded.append((page, tile))
        return original(self, page, tile)

    monkeypatch.setattr(ChunkedPixels, "_read_chunk", count)
    _, source = open_image(path)
    assert decoded == []
    source.window(slice(32, 64), slice(40, 70))
    assert decoded == [(1, 4), (1, 5)]
    source.window(slice(40, 70), slice(32, 64))  # what is decoded already is kept
    assert decoded == [(1, 4), (1, 5), (1, 7)]


def test_a_sparse_tile_is_black(tmp_path):
    pixels = noise(64, 64)
    path = write(tmp_path / "a.tif", pixels, tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for tag in ("TileOffsets", "TileByteCounts"):
            values = tiff.pages[0].tags[tag].value
            tiff.pages[0].tags[tag].overwrite([0, *values[1:]])
    pixels[:32, :32] = 0
    assert (whole(open_image(path)[0])[:, :, 0] == pixels).all()


def test_memory_is_that_of_some_windows(tmp_path, monkeypatch):
    size, tile = 2048, noise(256, 256, 3)
    path = tmp_path / "a.tif"
    settings = {"photometric": "rgb", "tile": (256, 256), "compression": "lzw"}
    tiles = (tile for _ in range((size // 256) ** 2))
    tifffile.imwrite(path, tiles, shape=(size, size, 3), dtype="uint8", **settings)
    monkeypatch.setattr("unet_sharp_det.images.tiff_pixels.CACHE_BYTES", 2**20)
    tracemalloc.start()
    (source,) = open_image(path)
    for y in range(0, size, 256):
        for x in range(0, size, 256):
            assert (source.window(slice(y, y + 256), slice(x, x + 256)) == tile).all()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 2**20  # the cache and some windows of 192 KiB; the image has 12 MiB


@pytest.mark.parametrize("samples", [3, 4])
def test_a_picture_without_colours_has_one_channel(tmp_path, samples):
    pixels = noise(*GRAY)[:, :, None].repeat(samples, axis=2)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(pixels))
    (source,) = open_image(path)
    assert (source.channels, source.total_channels) == (1, 1)
    np.testing.assert_array_equal(source.window(ALL, ALL)[:, :, 0], pixels[:, :, 0])
    (chosen,) = open_image(path, ReadOptions(channels=(0, 1, 2)))
    np.testing.assert_array_equal(chosen.window(ALL, ALL), pixels[:, :, :3])
    pixels[3, 4, 1] ^= 1
    path.write_bytes(imagecodecs.png_encode(pixels))
    assert open_image(path)[0].channels == 3
