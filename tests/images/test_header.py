"""Sizes from headers, image bombs, and files that end too early."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.images import read_image
from unet_sharp_det.images.decoding import MAX_PIXELS, check_pixels, decode
from unet_sharp_det.images.header import read_header

SHAPE = (48, 70)


def pixels() -> np.ndarray:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    noise = np.random.default_rng(0).normal(0, 8, (*SHAPE, 3))
    waves = 60 * np.sin(rows / 5) + 60 * np.cos(columns / 4) + 128
    return (waves[..., None] + noise).clip(0, 255).astype(np.uint8)


def pil(name, mode="RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels()).convert(mode).save(buffer, name, **options)
    return buffer.getvalue()


def tiff(array=None, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels() if array is None else array, **options)
    return buffer.getvalue()


def bmp_of_os2() -> bytes:
    header = struct.pack("<IHHHH", 12, SHAPE[1], SHAPE[0], 1, 24)
    return b"BM" + struct.pack("<IHHI", 26 + 48 * 212, 0, 0, 26) + header + bytes(48 * 212)


FILES = {
    "png": pil("PNG"),
    "png_16": cv2.imencode(".png", pixels()[..., 0].astype(np.uint16))[1].tobytes(),
    "jpeg": pil("JPEG"),
    "jpeg_progressive": pil("JPEG", progressive=True),
    "jpeg_thumbnail": pil("JPEG", exif=b"Exif\0\0" + pil("JPEG")[:2000]),
    "jpeg_restarts": cv2.imencode(".jpg", pixels(), [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[
        1
    ].tobytes(),
    "jpeg_with_trailer": pil("JPEG") + b"made by a phone",
    "tiff": tiff(),
    "tiff_big": tiff(bigtiff=True),
    "tiff_big_endian": tiff(byteorder=">"),
    "tiff_big_big_endian": tiff(bigtiff=True, byteorder=">"),
    "tiff_strips": tiff(rowsperstrip=8, compression="zlib"),
    "tiff_tiles": tiff(tile=(32, 32), compression="zlib"),
    "tiff_16": tiff(pixels()[..., 0].astype(np.uint16)),
    "png_bits": pil("PNG", mode="1"),
    "tiff_bits": pil("TIFF", mode="1"),
    "tiff_bits_big_endian": tiff(pixels()[..., 0] > 99, byteorder=">"),
    "bmp_bits": pil("BMP", mode="1"),
    "bmp": pil("BMP"),
    "bmp_os2": bmp_of_os2(),
    "gif": pil("GIF"),
    "webp": pil("WEBP"),
    "webp_lossless": pil("WEBP", lossless=True),
    "webp_extended": pil("WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
}


@pytest.mark.parametrize("name", FILES)
def test_headers(tmp_path, name):
    path = tmp_path / "image"
    path.write_bytes(FILES[name])
    header = read_header(path)
    assert header.shape == SHAPE == decode(path).shape[:2]
    assert not header.is_cut_short
    assert header.is_one_bit == ("bits" in name)


@pytest.mark.parametrize("name", FILES)
def test_half_a_file_is_never_half_an_image(tmp_path, name):
    path, data = tmp_path / "image", FILES[name]
    cuts = [len(data) * part // 20 for part in range(1, 20)]
    cuts += [] if name == "jpeg_with_trailer" else [len(data) - 40]
    for cut in cuts:
        path.write_bytes(data[:cut])
        with pytest.raises(DatasetError, match="truncated"):
            decode(path)


def png_bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(2**20), 9)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def with_sides(name: str, form: str, places: tuple[int, int], sides=(60000, 60000)) -> bytes:
    data = bytearray(FILES[name])
    for place, side in zip(places, sides, strict=True):
        struct.pack_into(form, data, place, side)
    return bytes(data)


def jpeg_bomb() -> bytes:
    frame = FILES["jpeg"].index(b"\xff\xc0")
    return with_sides("jpeg", ">H", (frame + 5, frame + 7))


def tiff_bomb() -> bytes:
    first = struct.pack("<HHI", 256, 4, 1)
    second = struct.pack("<HHI", 257, 4, 1)
    entries = first + struct.pack("<I", 60000) + second + struct.pack("<I", 60000)
    return b"II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)


BOMBS = {
    "png": (png_bomb(100_000, 100_000), "100000 x 100000"),
    "png_longest": (png_bomb(2**31 - 1, 2**31 - 1), "2147483647 x 2147483647"),
    "jpeg": (jpeg_bomb(), "60000 x 60000"),
    "tiff": (tiff_bomb(), "60000 x 60000"),
    "bmp": (with_sides("bmp", "<i", (18, 22)), "60000 x 60000"),
    "bmp_top_down": (with_sides("bmp", "<i", (18, 22), (60000, -60000)), "60000 x 60000"),
    "gif": (with_sides("gif", "<H", (6, 8)), "60000 x 60000"),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("read", [decode, lambda path: read_image(path, "RGB")])
def test_image_bombs_are_refused_by_their_header(tmp_path, monkeypatch, name, read):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the bomb was decoded"))
    data, size = BOMBS[name]
    path = tmp_path / "bomb"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=f"bomb: has {size} pixels.*{MAX_PIXELS:,}"):
        read(path)


def test_the_limit_itself_passes(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png_bomb(2**14, 2**14))
    assert check_pixels(path).shape == (2**14, 2**14)
    with pytest.raises(DatasetError, match="100 are decoded"):
        check_pixels(path, limit=100)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG",
        b"BM",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\x09\0\0\1",
        b"GIF89a",
        b"RIFF",
    ],
)
def test_a_rotten_header_is_left_to_the_decoder(tmp_path, data):
    path = tmp_path / "rotten"
    path.write_bytes(data)
    assert check_pixels(path).shape is None
    with pytest.raises(DatasetError, match="corrupt, truncated or no image"):
        decode(path)
