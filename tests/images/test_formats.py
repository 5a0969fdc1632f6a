"""Formats other than TIFF: sizes from headers, image bombs, half files, pixels and refusals."""

import io
import struct
import sys
import tracemalloc
import zlib

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.images import formats, open_image, read_image, read_labels
from unet_sharp_det.images.decoding import read_shape, read_stored
from unet_sharp_det.images.formats import MAX_PIXELS, check_pixels
from unet_sharp_det.images.intensity import rescale_to_uint8

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
    assert read_shape(path) == SHAPE == read_stored(path).shape[:2]


@pytest.mark.parametrize("name", ["png", "jpeg", "bmp", "jpeg 2000"])
def test_a_size_is_read_without_the_pixels(tmp_path, monkeypatch, name):
    data = FILES.get(name) or imagecodecs.jpeg2k_encode(pixels(), level=0, codecformat="jp2")
    (tmp_path / "image").write_bytes(data + bytes(2**24))
    monkeypatch.setattr("pathlib.Path.read_bytes", None)
    tracemalloc.start()
    assert read_shape(tmp_path / "image") == SHAPE
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("name", FILES)
def test_half_a_file_is_never_half_an_image(tmp_path, name, capfd):
    path, data = tmp_path / "image.png", FILES[name]
    cuts = [len(data) * part // 20 for part in range(1, 20)]
    cuts += [] if name == "jpeg_with_trailer" else [len(data) - 40]
    for cut in cuts:
        path.write_bytes(data[:cut])
        with pytest.raises(DatasetError, match="truncated|cannot be read as TIFF"):
            read_stored(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("jpeg")])
def test_half_a_jpeg_with_an_end_marker_is_no_image(tmp_path, name):
    path, data = tmp_path / "image", FILES[name].removesuffix(b"made by a phone")
    start = len(data) - 1500  # within the last scan
    for cut in (start, (start + len(data)) // 2, len(data) - 20):
        for end in (b"\xff\xd9", b"\xff\xd9 and more \xff\xd9"):
            path.write_bytes(data[:cut] + end)
            with pytest.raises(DatasetError, match="truncated"):
                read_image(path, "RGB")


def png(width: int, height: int, bits: int, data: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_bomb(width: int, height: int) -> bytes:
    return png(width, height, 1, zlib.compress(bytes(2**20), 9))


def with_sides(name: str, form: str, places: tuple[int, int], sides=(60000, 60000)) -> bytes:
    data = bytearray(FILES[name])
    for place, side in zip(places, sides, strict=True):
        struct.pack_into(form, data, place, side)
    return bytes(data)


def jpeg_bomb() -> bytes:
    frame = FILES["jpeg"].index(b"\xff\xc0")
    return with_sides("jpeg", ">H", (frame + 5, frame + 7))


def jpeg2000_bomb(place: int) -> bytes:
    """A file whose box, or whose code stream alone, claims a size."""
    data = bytearray(imagecodecs.jpeg2k_encode(pixels(), level=0, codecformat="jp2"))
    places = (data.index(b"ihdr") + 4, data.index(b"\xff\x4f\xff\x51") + 8)
    struct.pack_into(">II", data, places[place], 31744, 31744)
    return bytes(data)


BOMBS = {
    "png": (png_bomb(100_000, 100_000), "100000 x 100000"),
    "png_longest": (png_bomb(2**31 - 1, 2**31 - 1), "2147483647 x 2147483647"),
    "jpeg": (jpeg_bomb(), "60000 x 60000"),
    "bmp": (with_sides("bmp", "<i", (18, 22)), "60000 x 60000"),
    "bmp_top_down": (with_sides("bmp", "<i", (18, 22), (60000, -60000)), "60000 x 60000"),
    "gif": (with_sides("gif", "<H", (6, 8)), "60000 x 60000"),
    "jpeg 2000": (jpeg2000_bomb(0), "31744 x 31744"),
    "jpeg 2000 with another size around it": (jpeg2000_bomb(1), "31744 x 31744"),
    "pgm": (b"P5\n60000 60000\n255\n", "60000 x 60000"),
    "pfm": (b"Pf\n60000 60000\n-1.0\n", "60000 x 60000"),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("read", [read_stored, lambda path: read_image(path, "RGB")])
def test_image_bombs_are_refused_by_their_header(tmp_path, monkeypatch, name, read):
    monkeypatch.setattr(formats, "_decode", lambda *_: pytest.fail("the bomb was decoded"))
    data, size = BOMBS[name]
    path = tmp_path / "bomb"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=f"bomb: has {size} pixels.*{MAX_PIXELS:,}"):
        read(path)


def test_the_limit_itself_passes(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png_bomb(2**14, 2**14))
    shape = read_shape(path)
    assert shape == (2**14, 2**14)
    check_pixels(shape, path)
    with pytest.raises(DatasetError, match="100 are decoded"):
        check_pixels(shape, path, limit=100)


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
def test_a_rotten_header_is_named(tmp_path, data):
    path = tmp_path / "rotten.png"
    path.write_bytes(data)
    for read in (read_stored, read_shape):
        with pytest.raises(DatasetError, match=r"rotten\.png: .*(corrupt|truncated)"):
            read(path)


def depth(kind: str, channels: int) -> np.ndarray:
    top = np.iinfo(kind).max
    colours = np.random.default_rng(1).integers(0, top, (*SHAPE, channels), kind, endpoint=True)
    return colours[:, :, 0] if channels == 1 else colours


LOSSLESS = {
    "png": imagecodecs.png_encode,
    "jp2": lambda array: imagecodecs.jpeg2k_encode(array, level=0, codecformat="jp2"),
    "j2k": lambda array: imagecodecs.jpeg2k_encode(array, level=0, codecformat="j2k"),
}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("name", LOSSLESS)
def test_every_depth_and_alpha(tmp_path, name, kind, channels):
    array = depth(kind, channels)
    (tmp_path / "image").write_bytes(LOSSLESS[name](array))
    assert np.array_equal(read_stored(tmp_path / "image"), array)
    (source,) = open_image(tmp_path / "image")
    assert (source.channels, source.dtype) == (1 if channels < 3 else 3, array.dtype)
    window = source.window(slice(3, 20), slice(5, 60))
    assert np.array_equal(window, array.reshape(*SHAPE, -1)[3:20, 5:60, : source.channels])


def of_pillow(mode: str, kind: str, **options) -> tuple[bytes, np.ndarray]:
    """Return a file and its colours."""
    picture = Image.fromarray(pixels()).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    alpha_less = picture if mode in ("L", "1", "F") else picture.convert("RGB")
    return buffer.getvalue(), np.asarray(alpha_less.convert("L") if mode == "1" else alpha_less)


OTHERS = {
    "palette": of_pillow("P", "PNG"),
    "palette with a transparent colour": of_pillow("P", "PNG", transparency=3),
    "gray with a transparent level": of_pillow("L", "PNG", transparency=3),
    "colours with a transparent one": of_pillow("RGB", "PNG", transparency=(1, 2, 3)),
    "bits": of_pillow("1", "PNG"),
    "bits in BMP": of_pillow("1", "BMP"),
    "bits in PBM": of_pillow("1", "PPM"),
    "palette in BMP": of_pillow("P", "BMP"),
    "palette in GIF": of_pillow("P", "GIF"),
    "transparent GIF": of_pillow("P", "GIF", transparency=3),
    "PPM": of_pillow("RGB", "PPM"),
    "PGM": of_pillow("L", "PPM"),
    "WebP with alpha": of_pillow("RGBA", "WEBP", lossless=True),
    "PFM": of_pillow("F", "PPM"),
    "PGM of 16 bits": (b"P5\n70 48\n65535\n" + depth("uint16", 1).astype(">u2").tobytes(), None),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds_of_pixels(tmp_path, name):
    data, expected = OTHERS[name]
    (tmp_path / "image").write_bytes(data)
    (source,) = open_image(tmp_path / "image")
    expected = depth("uint16", 1) if expected is None else expected
    window = source.window(slice(None), slice(None))
    assert window.dtype == expected.dtype
    assert np.array_equal(window, expected.reshape(*SHAPE, -1))
    if name.startswith("bits"):
        assert np.array_equal(read_labels(tmp_path / "image"), expected > 0)


@pytest.mark.parametrize("name", [*OTHERS, "png_16"])
def test_without_imagecodecs_pillow_reads_what_it_can(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    if name in OTHERS:
        test_other_kinds_of_pixels(tmp_path, name)
    else:
        (tmp_path / "image").write_bytes(FILES[name])
        with pytest.raises(DatasetError, match="image: .*pip install imagecodecs"):
            open_image(tmp_path / "image")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_labels_of_few_bits_are_the_numbers_of_the_file(tmp_path, bits):
    labels = depth("uint8", 1) >> (8 - bits)
    rows = np.packbits(np.unpackbits(labels[..., None], axis=2)[:, :, -bits:].reshape(48, -1), 1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    (tmp_path / "labels.png").write_bytes(png(70, 48, bits, zlib.compress(raw)))
    assert np.array_equal(read_labels(tmp_path / "labels.png"), labels)
    expected = labels * (255 // (2**bits - 1))
    assert np.array_equal(read_image(tmp_path / "labels.png", "L")[:, :, 0], expected)


@pytest.mark.parametrize("white", [3, 12, 255, 300, 4095])
def test_labels_of_pgm_are_the_numbers_of_the_file(tmp_path, white):
    kind = np.dtype("u1" if white < 256 else ">u2")
    labels = (np.arange(48 * 70).reshape(SHAPE) % (white + 1)).astype(kind)
    (tmp_path / "binary").write_bytes(b"P5 70 48 %d\n" % white + labels.tobytes())
    (tmp_path / "text").write_text(f"P2 70 48 {white}\n" + " ".join(map(str, labels.flat)))
    for name in ("binary", "text"):
        assert np.array_equal(read_labels(tmp_path / name), labels)
        image = read_image(tmp_path / name, "L")[:, :, 0]
        expected = rescale_to_uint8(labels) if white > 255 else np.rint(labels * (255 / white))
        assert np.array_equal(image, expected)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_refused(tmp_path, kind):
    frames = [Image.fromarray(pixels() // part) for part in (1, 2, 3)]
    frames[0].save(tmp_path / "a", kind, save_all=True, append_images=frames[1:])
    with pytest.raises(DatasetError, match="a: is an animation of 3 images"):
        read_image(tmp_path / "a", "RGB")


def test_the_preview_in_the_jpeg_of_a_phone_is_no_animation(tmp_path):
    picture = Image.fromarray(pixels())
    picture.save(tmp_path / "a", "MPO", save_all=True, append_images=[picture.reduce(2)])
    Image.fromarray(pixels()).save(tmp_path / "b.jpg")
    assert np.array_equal(read_image(tmp_path / "a", "RGB"), read_image(tmp_path / "b.jpg", "RGB"))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jxl", imagecodecs.jpegxl_encode(pixels())),
        ("a.avif", pil("AVIF")),
        ("a.hdr", cv2.imencode(".hdr", pixels().astype(np.float32))[1].tobytes()),
        ("a.ras", cv2.imencode(".ras", pixels())[1].tobytes()),
    ],
)
def test_a_sound_file_of_another_format_is_not_called_corrupt(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetError, match=f"{name}: .*not read.*TIFF") as error:
        read_image(tmp_path / name, "RGB")
    assert "corrupt" not in str(error.value)


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: np.rot90,
    9: lambda a: a,  # of no meaning
}


@pytest.mark.parametrize("tag", TURNS)
@pytest.mark.parametrize("name", ["a.png", "behind the pixels.png", "a.webp", "a.tif"])
def test_images_and_labels_are_turned_alike(tmp_path, name, tag):
    exif = Image.Exif()
    exif[274] = tag
    path, labels = tmp_path / name, pixels()[:, :, 0]
    options = {"tiffinfo": {274: tag}} if name == "a.tif" else {"exif": exif, "lossless": True}
    Image.fromarray(labels).save(path, **options)
    if "behind" in name:
        data = path.read_bytes()
        start, end = data.index(b"eXIf") - 4, data.index(b"IEND") - 4
        stop = start + 12 + int.from_bytes(data[start : start + 4], "big")
        path.write_bytes(data[:start] + data[stop:end] + data[start:stop] + data[end:])
    assert np.array_equal(read_image(path, "L")[:, :, 0], TURNS[tag](labels))
    assert read_shape(path) == TURNS[tag](labels).shape
    window = open_image(path)[0].window(slice(11, 40), slice(2, 30))
    assert np.array_equal(window[:, :, 0], TURNS[tag](labels)[11:40, 2:30])
    if name != "a.webp":  # which has no gray
        assert np.array_equal(read_labels(path), TURNS[tag](labels))
