"""Images of any kind, read by windows: values, axes, channels, planes, pixel sizes, bad files."""

import tracemalloc

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_sharp_det.data.image_io import read_image
from unet_sharp_det.errors import DatasetError, UserError
from unet_sharp_det.prediction.image_source import ReadOptions, check_file, from_array, open_image
from unet_sharp_det.prediction.tiff_chunks import ChunkedPixels

ALL = slice(None)


def noise(*shape, dtype="uint8", seed=0):
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.normal(size=shape).astype(dtype)
    if dtype == "bool":
        return random.random(shape) > 0.5
    info = np.iinfo(dtype)
    return random.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def write(path, array, **settings):
    tifffile.imwrite(path, array, **settings)
    return path


def whole(source):
    return source.window(ALL, ALL)


def read(path, **options):
    return [whole(source) for source in open_image(path, ReadOptions(**options))]


def contents(path):
    return [(s.name, s.pixel_size, whole(s).tobytes()) for s in open_image(path)]


def refusal(path, **options) -> str:
    """Read a file that may be broken; return the message of the error, or nothing."""
    try:
        read(path, **options)
    except UserError as error:
        return str(error)
    return ""


GRAY, COLOUR = (45, 70), (45, 70, 3)
TILED = {"tile": (16, 32)}
FILES = {
    "uint8": (noise(*GRAY), {}),
    "int8": (noise(*GRAY, dtype="int8"), {"compression": "zlib"}),
    "uint16": (noise(*GRAY, dtype="uint16"), {}),
    "int16 big-endian": (noise(*GRAY, dtype="int16"), {"byteorder": ">"}),
    "uint16 big-endian, packed": (
        noise(*GRAY, dtype="uint16"),
        {"byteorder": ">", "compression": "zlib", "predictor": True},
    ),
    "uint32": (noise(*GRAY, dtype="uint32"), {"compression": "lzw", "predictor": True, **TILED}),
    "int32": (noise(*GRAY, dtype="int32"), {"compression": "zlib", "rowsperstrip": 7}),
    "uint64": (noise(*GRAY, dtype="uint64"), {}),
    "float16": (noise(*GRAY, dtype="float16"), TILED),
    "float32": (noise(*GRAY, dtype="float32"), {"compression": "zlib", "predictor": True}),
    "float64": (noise(*GRAY, dtype="float64"), {"compression": "zstd"}),
    "RGB strips": (noise(*COLOUR), {"photometric": "rgb", "rowsperstrip": 8}),
    "RGB tiles": (noise(*COLOUR), {"photometric": "rgb", "compression": "lzw", **TILED}),
    "RGB 16 bit": (noise(*COLOUR, dtype="uint16"), {"photometric": "rgb", **TILED}),
    "RGB png": (noise(*COLOUR), {"photometric": "rgb", "compression": "png", **TILED}),
    "packbits": (noise(*GRAY), {"compression": "packbits", "rowsperstrip": 11}),
    "lzma": (noise(*GRAY), {"compression": "lzma"}),
    "jpeg 2000": (noise(*GRAY), {"compression": "jpeg2000", **TILED}),
    "BigTIFF": (noise(*GRAY), {"bigtiff": True, "compression": "zlib", **TILED}),
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


def test_planar_channels_become_the_last_axis(tmp_path):
    array = noise(3, 45, 70)
    for settings in ({}, {"compression": "zlib", **TILED}, {"compression": "zlib"}):
        path = write(
            tmp_path / "a.tif", array, photometric="rgb", planarconfig="separate", **settings
        )
        (source,) = open_image(path)
        assert (
            source.window(slice(3, 40), slice(9, 50)) == array[:, 3:40, 9:50].transpose(1, 2, 0)
        ).all()


def test_jpeg_in_tiff_is_converted_to_rgb(tmp_path):
    flat = np.full((64, 64, 3), (200, 40, 90), np.uint8)
    settings = {"photometric": "rgb", "compression": "jpeg", "tile": (32, 32)}
    (source,) = open_image(write(tmp_path / "a.tif", flat, **settings))
    assert np.abs(whole(source).astype(int) - flat).max() <= 3


OPAQUE = np.array([0, 0, 0, 255], np.uint8)
READ_AS_THE_TRAINING_DOES = {
    "bits": (noise(*GRAY, dtype="bool"), {}),
    "bits, 0 is black": (noise(*GRAY, dtype="bool"), {"photometric": "minisblack"}),
    "0 is white": (noise(*GRAY), {"photometric": "miniswhite"}),
    "0 is white, tiles": (noise(*GRAY), {"photometric": "miniswhite", "compression": "zlib"}),
    "0 is white, 16 bit": (noise(*GRAY, dtype="uint16"), {"photometric": "miniswhite"}),
    "palette": (
        noise(*GRAY),
        {"photometric": "palette", "colormap": noise(3, 256, dtype="uint16", seed=1)},
    ),
    "alpha": (noise(*GRAY, 4) | OPAQUE, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "alpha, 16 bit": (noise(*GRAY, 4, dtype="uint16"), {"photometric": "rgb"}),
    **{
        f"orientation {tag}": (noise(*GRAY), {"extratags": [(274, "H", 1, tag, True)]})
        for tag in (2, 3, 4)
    },
}


@pytest.mark.parametrize("name", READ_AS_THE_TRAINING_DOES)
def test_bits_palettes_alpha_and_turns_are_read_as_the_training_reads_them(tmp_path, name):
    array, settings = READ_AS_THE_TRAINING_DOES[name]
    path = write(tmp_path / "a.tif", array, **settings)
    (source,) = open_image(path)
    if "16" in name:
        pixels = whole(source)
        assert (pixels == array.reshape(*GRAY, -1)[:, :, : source.channels]).all()
        return
    expected = read_image(path, "RGB" if source.channels == 3 else "L")
    assert (whole(source) == expected).all()
    assert (source.window(slice(7, 20), slice(3, 60)) == expected[7:20, 3:60]).all()


@pytest.mark.parametrize(
    ("tag", "turn"),
    [
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.T),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].T),
        (8, np.rot90),
    ],
)
def test_images_stored_in_another_orientation_are_turned(tmp_path, tag, turn):
    array = noise(*GRAY)
    path = write(tmp_path / "a.tif", array, extratags=[(274, "H", 1, tag, True)], **TILED)
    (source,) = open_image(path)
    assert source.shape == turn(array).shape
    assert (whole(source)[:, :, 0] == turn(array)).all()
    assert (source.window(slice(11, 40), slice(2, 30))[:, :, 0] == turn(array)[11:40, 2:30]).all()


def test_fewer_than_8_bits_fill_the_range(tmp_path):
    Image.fromarray(noise(*GRAY) // 17 * 17).quantize(16).save(tmp_path / "palette.png")
    (source,) = open_image(tmp_path / "palette.png")
    assert (whole(source) == read_image(tmp_path / "palette.png", "RGB")).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_other_formats_are_read_as_the_training_reads_them(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(*COLOUR)).save(path)
    (source,) = open_image(path)
    assert (source.channels, source.pixel_size, source.suffix) == (3, None, "")
    assert (whole(source) == read_image(path, "RGB")).all()


def test_png_of_16_bit_alpha_and_exif(tmp_path):
    deep = noise(*GRAY, dtype="uint16")
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    assert (whole(open_image(tmp_path / "deep.png")[0])[:, :, 0] == deep).all()
    Image.fromarray(noise(*GRAY, 4)).save(tmp_path / "alpha.png")
    assert (whole(open_image(tmp_path / "alpha.png")[0]) == noise(*GRAY, 4)[:, :, :3]).all()
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(noise(*COLOUR)).save(tmp_path / "turned.jpg", exif=exif)
    (source,) = open_image(tmp_path / "turned.jpg")
    assert source.shape == (70, 45)
    assert (whole(source) == read_image(tmp_path / "turned.jpg", "RGB")).all()


def stack(*shape):
    return noise(*shape, dtype="uint16")


Z5, C3Z5 = stack(5, 40, 60), stack(5, 3, 40, 60)
PAGES = {"metadata": None, "photometric": "minisblack"}
OME = {"ome": True, "compression": "zlib"}
# settings of the file, options, plane number, its name, suffix, pixels (H, W) or (H, W, C)
PLANES = {
    "pages without names": (Z5, {"metadata": None}, {}, 3, "[page=3]", "_page003", Z5[3]),
    "three pages are planes": (Z5[:3], PAGES, {}, 1, "[page=1]", "_page001", Z5[1]),
    "three pages as channels": (
        *(Z5[:3], {**PAGES, "compression": "zlib"}, {"channel_axis": 0}),
        *(0, "", "", Z5[:3].transpose(1, 2, 0)),
    ),
    "OME z": (Z5, {**OME, "metadata": {"axes": "ZYX"}}, {}, 4, "[z=4]", "_z004", Z5[4]),
    "OME z and channels": (
        *(C3Z5, {**OME, "metadata": {"axes": "ZCYX"}}, {}),
        *(2, "[z=2]", "_z002", C3Z5[2].transpose(1, 2, 0)),
    ),
    "OME z and RGB": (
        *(stack(2, 40, 60, 3), {**OME, "metadata": {"axes": "ZYXS"}, "photometric": "rgb"}, {}),
        *(1, "[z=1]", "_z001", stack(2, 40, 60, 3)[1]),
    ),
    "ImageJ hyperstack": (
        *(C3Z5, {"imagej": True, "metadata": {"axes": "ZCYX"}}, {"channels": (2, 0, 0)}),
        *(1, "[z=1]", "_z001", C3Z5[1, [2, 0, 0]].transpose(1, 2, 0)),
    ),
    "ImageJ times": (
        *(C3Z5, {"imagej": True, "metadata": {"axes": "TZYX"}}, {}),
        *(4, "[t=1,z=1]", "_t001_z001", C3Z5[1, 1]),
    ),
    "maximum of z": (
        *(C3Z5, {**OME, "metadata": {"axes": "TZYX"}}, {"planes": "max"}),
        *(3, "[t=3,z=max]", "_t003_zmax", C3Z5[3].max(axis=0)),
    ),
    "maximum of t": (
        *(C3Z5, {**OME, "metadata": {"axes": "TZYX"}}, {"planes": "max", "plane_axis": "t"}),
        *(2, "[t=max,z=2]", "_tmax_z002", C3Z5[:, 2].max(axis=0)),
    ),
    "chosen planes": (
        *(Z5, {**OME, "metadata": {"axes": "ZYX"}}, {"planes": (4, 1)}),
        *(1, "[z=1]", "_z001", Z5[1]),
    ),
    "channels as planes": (
        *(Z5, {**OME, "metadata": {"axes": "CYX"}}, {"plane_axis": "C"}),
        *(2, "[c=2]", "_c002", Z5[2]),
    ),
    "an array saved as thin pages": (
        *(stack(40, 60, 3), {"photometric": "minisblack"}, {}),
        *(0, "", "", stack(40, 60, 3)),
    ),
    "channels last by option": (
        *(stack(40, 60, 7), {"photometric": "minisblack"}, {"channel_axis": -1, "channels": (5,)}),
        *(0, "", "", stack(40, 60, 7)[:, :, 5]),
    ),
    "a volume in 3D tiles": (
        *(stack(20, 40, 60), {"tile": (16, 16, 16), "compression": "zlib"}, {}),
        *(17, "[z=17]", "_z017", stack(20, 40, 60)[17]),
    ),
}


@pytest.mark.parametrize("case", PLANES)
def test_planes_of_stacks(tmp_path, case):
    array, settings, options, number, name, suffix, expected = PLANES[case]
    path = write(
        tmp_path / "a.ome.tif" if "ome" in settings else tmp_path / "a.tif", array, **settings
    )
    source = open_image(path, ReadOptions(**options))[number]
    assert (source.name, source.suffix) == (path.name + name, suffix)
    expected = expected.reshape(*expected.shape[:2], -1)
    assert (*source.shape, source.channels) == expected.shape
    assert (whole(source) == expected).all()
    assert (source.window(slice(7, 31), slice(9, 50)) == expected[7:31, 9:50]).all()


def test_the_number_of_planes(tmp_path):
    path = write(tmp_path / "a.tif", C3Z5, imagej=True, metadata={"axes": "TZYX"})
    assert len(open_image(path)) == 15
    assert len(open_image(path, ReadOptions(planes="max"))) == 5
    assert len(open_image(path, ReadOptions(planes=(2, 0), plane_axis="T"))) == 6
    assert len(open_image(write(path, noise(*GRAY)), ReadOptions(planes="max"))) == 1


def test_other_series_and_the_full_resolution_of_a_pyramid(tmp_path):
    path, array = tmp_path / "a.ome.tif", noise(128, 96, 3)
    with tifffile.TiffWriter(path, ome=True) as writer:
        shared = {"tile": (32, 32), "compression": "zlib", "photometric": "rgb"}
        writer.write(array, subifds=2, **shared)
        writer.write(array[::2, ::2], subfiletype=1, **shared)
        writer.write(array[::4, ::4], subfiletype=1, **shared)
        writer.write(noise(20, 30))
    (source,) = open_image(path)
    assert (whole(source) == array).all()
    (source,) = open_image(path, ReadOptions(series=1))
    assert (whole(source)[:, :, 0] == noise(20, 30)).all()
    with pytest.raises(UserError, match=r"no --series 2.*0 to 1"):
        open_image(path, ReadOptions(series=2))


WRONG_OPTIONS = [
    ((5, 40, 60), "CYX", {}, r"has 5 channels.*--channels"),
    ((2, 40, 60), "CYX", {}, r"has 2 channels.*--channels"),
    ((4, 40, 60), "CYX", {}, r"has 4 channels.*--channels"),
    ((5, 40, 60), "CYX", {"channels": (5,)}, r"--channels 5.*5 channels, from 0 to 4"),
    ((5, 40, 60), "CYX", {"channels": (0, 1)}, r"one channel, or three"),
    ((5, 40, 60), "ZYX", {"channels": (1,)}, r"--channels 1.*1 channel, from 0 to 0"),
    ((5, 40, 60), "ZYX", {"planes": (5,)}, r"--planes 5.*0 to 4"),
    ((5, 40, 60), "ZYX", {"planes": ()}, r"--planes \(none\)"),
    ((5, 40, 60), "ZYX", {"planes": "mean"}, r"all, max, or numbers"),
    (
        (5, 40, 60),
        "ZYX",
        {"channel_axis": "Q"},
        r"--channel-axis Q is not.*0: Z \(5\), 1: Y \(40\)",
    ),
    ((5, 40, 60), "ZYX", {"channel_axis": 3}, r"--channel-axis 3 is not one of its axes"),
    ((5, 40, 60), "ZYX", {"channel_axis": 0, "plane_axis": "z"}, r"are the same axis"),
    ((2, 3, 40, 60), "TCYX", {"channel_axis": "C", "planes": (2,)}, r"--planes 2.*0 to 1"),
    ((40, 60), "YX", {"planes": (1,)}, r"single plane"),
    ((40, 60), "YX", {"plane_axis": "Y"}, r"no two axes are left"),
]


@pytest.mark.parametrize(("shape", "axes", "options", "message"), WRONG_OPTIONS)
def test_options_that_do_not_fit_say_what_there_is(tmp_path, shape, axes, options, message):
    path = write(tmp_path / "a.ome.tif", noise(*shape), ome=True, metadata={"axes": axes})
    with pytest.raises(UserError, match=message):
        open_image(path, ReadOptions(**options))


def test_two_axes_of_planes_need_a_name(tmp_path):
    path = write(tmp_path / "a.tif", noise(2, 3, 40, 60), photometric="minisblack")
    with pytest.raises(UserError, match=r"--planes needs --plane-axis.*0: Q \(2\), 1: Q \(3\)"):
        open_image(path, ReadOptions(planes="max"))
    with pytest.raises(UserError, match="names several axes; give an index"):
        open_image(path, ReadOptions(plane_axis="Q"))
    (first, _, _) = open_image(path, ReadOptions(planes="max", plane_axis=0))
    assert first.suffix == "_pagemax_page000"


UM = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
PIXEL_SIZES = {
    "OME um": ({"ome": True, "metadata": UM}, (0.5, 0.25)),
    "OME nm": (
        *({"ome": True, "metadata": {**UM, "PhysicalSizeXUnit": "nm", "PhysicalSizeYUnit": "mm"}},),
        (500.0, 0.00025),
    ),
    "OME pixels": (
        {"ome": True, "metadata": {**UM, "PhysicalSizeXUnit": "pixel"}},
        None,
    ),
    "OME none": ({"ome": True}, None),
    "ImageJ micron": (
        {"imagej": True, "resolution": (4, 2), "metadata": {"unit": "micron"}},
        (0.5, 0.25),
    ),
    "ImageJ um": (
        {"imagej": True, "resolution": (4, 2), "metadata": {"unit": "\\u00B5m"}},
        (0.5, 0.25),
    ),
    "ImageJ inch": ({"imagej": True, "resolution": (72, 72), "metadata": {"unit": "inch"}}, None),
    "inch": ({"resolution": (72, 72), "resolutionunit": "inch"}, None),
    "cm": ({"resolution": (40000, 20000), "resolutionunit": "centimeter"}, None),
    "nothing": ({}, None),
}


@pytest.mark.parametrize("name", PIXEL_SIZES)
def test_pixel_size(tmp_path, name):
    settings, expected = PIXEL_SIZES[name]
    (source,) = open_image(write(tmp_path / "a.tif", noise(*GRAY), **settings))
    assert source.pixel_size == (expected and pytest.approx(expected))


def test_arrays(tmp_path):
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
    with pytest.raises(ValueError, match="steps of 1"):
        from_array(noise(*GRAY)).window(slice(0, 9, 2), ALL)


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
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "empty": (lambda path: path.write_bytes(b""), "no image"),
    "text": (lambda path: path.write_text("label,area\n1,2\n"), "no image"),
    "PNG signature": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "no image"),
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


TRUNCATED = {
    "raw.tif": {},
    "pages.tif": {"compression": "zlib", "metadata": None},
    "tiles.tif": {"compression": "lzw", **TILED},
    "stack.ome.tif": {"ome": True, "compression": "zlib", "metadata": {"axes": "ZYX"}},
    "imagej.tif": {"imagej": True},
    "jpeg.tif": {"compression": "jpeg"},
    "a.png": None,
    "a.jpg": None,
}


@pytest.mark.parametrize("name", TRUNCATED)
def test_a_truncated_file_never_gives_half_an_image(tmp_path, name):
    path = tmp_path / name
    array = noise(3, 64, 64)
    if TRUNCATED[name] is None:
        Image.fromarray(array[0]).save(path)
    else:
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


def test_random_bytes_give_an_image_or_a_named_error(tmp_path):
    path = write(tmp_path / "a.tif", noise(2, 64, 64, dtype="uint16"), compression="zlib", **TILED)
    content, random = path.read_bytes(), np.random.default_rng(0)
    messages = []
    for _ in range(60):
        broken = bytearray(content)
        for place in random.integers(0, 600, 4):
            broken[place] = random.integers(256)
        path.write_bytes(broken)
        messages.append(refusal(path, max_pixels=2**20))
    assert 0 < sum(map(bool, messages)) < 60
    assert all("a.tif" in message for message in messages if message)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((300, 400), np.uint8)).save(path)
    assert len(open_image(path, ReadOptions(max_pixels=120_000))) == 1
    monkeypatch.setattr("unet_sharp_det.prediction.image_source.decode", None)
    message = r"300 x 400 = 120000 pixels.*--max-pixels 119999"
    with pytest.raises(DatasetError, match=message):
        open_image(path, ReadOptions(max_pixels=119_999))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # PIL's own refusal is another error
    with pytest.raises(DatasetError, match=message):
        check_file(path, 119_999)
    check_file(path, 120_000)
    assert Image.MAX_IMAGE_PIXELS == 1000


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
    monkeypatch.setattr("unet_sharp_det.prediction.tiff_chunks.CACHE_BYTES", 2**20)
    tracemalloc.start()
    (source,) = open_image(path)
    for y in range(0, size, 256):
        for x in range(0, size, 256):
            assert (source.window(slice(y, y + 256), slice(x, x + 256)) == tile).all()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 2**20  # the cache and some windows of 192 KiB; the image has 12 MiB
