"""Images of other formats than TIFF: those that are read, and those that cannot be."""

import contextlib
import io
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, JpegImagePlugin

from ..errors import DatasetError, library_errors

#: Pixels that are decoded at once: 16384 x 16384. A file of some KB can claim to hold far more.
MAX_PIXELS = 2**28
_TOO_LARGE = "Cut it into parts; for predictions save it as tiled TIFF, or raise --max-pixels."

FORMATS = ("PNG", "JPEG", "JPEG2000", "WEBP", "BMP", "GIF", "PPM")

_PLAIN_MODES = ("1", "L", "LA", "RGB", "RGBA", "I", "F")  # others are palettes and colour spaces
_ORIENTATION = 274
CODESTREAM = b"\xff\x4f\xff\x51"  # of JPEG 2000, before its size
_DAMAGED = "cannot be decoded, it is corrupt, truncated or of a kind not read"
_FURTHER = b"\xaa\x55" * 2048

_NOT_READ = {
    **{".zvi": "Zeiss ZVI", ".lof": "Leica LOF", ".xlef": "Leica XLEF", ".scn": "Leica SCN"},
    **{".vsi": "Olympus VSI", ".ndpis": "Hamamatsu NDPIS"},
    **{".ets": "Olympus ETS", ".oib": "Olympus OIB", ".oif": "Olympus OIF", ".oir": "Olympus OIR"},
    **{".dcm": "DICOM", ".dicom": "DICOM", ".ims": "Imaris", ".dv": "DeltaVision"},
    **{".r3d": "DeltaVision", ".isyntax": "Philips iSyntax"},
    **{".ics": "ICS", ".ids": "ICS", ".sld": "SlideBook", ".mrc": "MRC", ".flex": "Opera Flex"},
}
#: What to do with files of formats that are not read.
HOW_TO_CONVERT = (
    "Convert to OME-TIFF: in Fiji by File > Import > Bio-Formats and Save As > OME-TIFF, or by "
    "the command bfconvert of Bio-Formats."
)


class Decoded(NamedTuple):
    """What a file stores."""

    pixels: np.ndarray  # (H, W), or (H, W, channels) with alpha as the second or fourth one
    orientation: int  # the EXIF tag of that name, 1 to 8
    white: int | None  # the largest value, where it is none of 8 or 16 bits: 1 of 1 bit, 15 of 4


def decode(path: Path, max_pixels: int) -> Decoded:
    """Decode an image of one of :data:`FORMATS`; half a file is an error, never half an image.

    Raises:
        DatasetError: the file is corrupt, truncated, too large, an animation, or of another
            format.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    with library_errors(f"{path}: {_DAMAGED}"):
        file = io.BytesIO(data)
        image = _open(file, path)
        check_pixels(image.size[::-1], path, max_pixels)
        if image.format == "JPEG2000":  # Decoded is what lies within, whose size may be another.
            check_pixels(next(jpeg2000_sizes(data))[:2], path, max_pixels)
        if getattr(image, "is_animated", False) and image.format != "MPO":
            count = image.n_frames
            raise DatasetError(f"{path}: is an animation of {count} images. Save the one you mean.")
        white = _white(image)
        pixels = _decode(image, data, path)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    elif white is not None:  # Decoders have stretched the values.
        pixels = np.rint(pixels * (white / np.iinfo(pixels.dtype).max)).astype(pixels.dtype)
    return Decoded(pixels, _orientation(image, file), white)


def read_size(path: Path) -> tuple[int, int]:
    """Return (height, width) as it is meant, from the header; raises as :func:`decode` does."""
    with path.open("rb") as file, library_errors(f"{path}: {_DAMAGED}"):
        image = _open(file, path)
        return image.size if _orientation(image, file) >= 5 else image.size[::-1]


def check_pixels(shape, where, limit: int = MAX_PIXELS, remedy: str = _TOO_LARGE) -> None:
    """Raise :class:`DatasetError` of a (height, width) that a file claims, if it is too large.

    ``remedy`` says what the user can do.
    """
    height, width = shape
    if height * width > limit:
        raise DatasetError(
            f"{where}: has {height} x {width} pixels (height x width), but at most {limit:,} are "
            f"decoded at once. {remedy}"
        )


def format_not_read(path) -> str | None:
    """Return the name of a file's format if its suffix is that of one that is not read."""
    return _NOT_READ.get(PurePath(path).suffix.lower())


def count_not_read(paths: Iterable) -> str:
    """Return how many files of each such format there are, and what to do; ``""`` of none."""
    counts = Counter(filter(None, map(format_not_read, paths)))
    if not counts:
        return ""
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    return f"Files that are not read: {kinds}. {HOW_TO_CONVERT}"


def is_complete(pixels: np.ndarray, data: bytes, end: int, decode: Callable) -> bool:
    """Return whether all blocks of JPEG or JPEG XR are there, which decoders fill in silence.

    What follows the last block changes nothing: where more data changes the pixels, it was missing.
    ``end`` is where the marker of the end stands, or -1.
    """
    end = len(data) if end < 0 else end
    return np.array_equal(pixels, decode(data[:end] + _FURTHER + data[end:]))


def jpeg2000_sizes(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (height, width, samples) of all that may be a codestream of JPEG 2000 in the data."""
    for found in re.finditer(re.escape(CODESTREAM), data):
        x1, y1, x0, y0 = struct.unpack_from(">4I", data, found.start() + 8)
        (samples,) = struct.unpack_from(">H", data, found.start() + 40)
        yield y1 - y0, x1 - x0, samples


def _open(file: BinaryIO, path: Path) -> Image.Image:
    """Read the header. ``Image.open`` would do, but has a limit of pixels of its own."""
    Image.init()  # registers the formats
    start = file.read(16)
    file.seek(0)
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept(start) is True:
            return factory(file, None)
    known = f"TIFF, {', '.join(FORMATS)}"
    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff") or Image.EXTENSION.get(suffix) in FORMATS:
        raise DatasetError(f"{path}: is corrupt, truncated or no image of the formats {known}.")
    raise DatasetError(f"{path}: is not read, its format is none of {known}. Save it as TIFF.")


def _white(image: Image.Image) -> int | None:
    """Return :attr:`Decoded.white` of an image that is not decoded yet."""
    if image.mode == "1":
        return 1
    kind = image.tile[0].args if image.format in ("PNG", "PPM") else None
    if image.format == "PPM" and image.mode != "F" and not isinstance(kind, str):
        return kind[1]
    return {"L;2": 3, "L;4": 15}.get(kind)


def _decode(image: Image.Image, data: bytes, path: Path) -> np.ndarray:
    decode_all = _codec(image, path)
    if decode_all is not None:
        pixels = decode_all(data)
        if pixels.shape[:2] != image.size[::-1]:
            raise DatasetError(f"{path}: is corrupt: its header says {image.size[::-1]} pixels.")
        return pixels
    if image.mode == "RGB" and _white(image) not in (None, 255):
        raise DatasetError(f"{path}: this kind of PPM is not read. Save it as PNG or TIFF.")
    pixels = _to_array(image)
    if image.format not in ("JPEG", "MPO"):
        return pixels
    end = data.find(b"\xff\xd9", JpegImagePlugin.JpegImageFile(io.BytesIO(data)).fp.tell())

    def decode_again(longer: bytes) -> np.ndarray:
        return _to_array(JpegImagePlugin.JpegImageFile(io.BytesIO(longer)))

    if not is_complete(pixels, data, end, decode_again):
        raise DatasetError(f"{path}: cannot be decoded, the file is truncated: its end is missing.")
    return pixels


def _codec(image: Image.Image, path: Path) -> Callable[[bytes], np.ndarray] | None:
    """Return what decodes where pillow would cut to 8 bits or be slower; None: pillow itself."""
    if image.format not in ("PNG", "JPEG2000"):
        return None
    try:
        import imagecodecs
    except ImportError as error:  # A GPU host has what training needs (docs/GPU.md).
        if image.format == "PNG" and "16" not in image.tile[0].args:
            return None
        raise DatasetError(
            f"{path}: {image.format} of its depth takes imagecodecs: pip install imagecodecs."
        ) from error
    return imagecodecs.png_decode if image.format == "PNG" else imagecodecs.jpeg2k_decode


def _to_array(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image if image.mode in _PLAIN_MODES else image.convert("RGB"))
    return pixels.astype(np.uint16) if image.mode == "I" else pixels  # of 16 bit, says PPM


def _orientation(image: Image.Image, file: BinaryIO) -> int:
    # Pillow decodes a PNG to look for an orientation behind the pixels.
    is_known = not {"exif", "Raw profile type exif"}.isdisjoint(image.info)
    if image.format == "PNG" and not is_known and not _has_exif(file):
        return 1
    with contextlib.suppress(Exception):  # A picture is sound, whatever is wrong with its EXIF.
        found = image.getexif().get(_ORIENTATION, 1)
        return found if found in range(1, 9) else 1
    return 1


def _has_exif(png: BinaryIO) -> bool:
    place, kind = png.tell(), b""
    png.seek(8)
    while kind != b"eXIf" and len(head := png.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        png.seek(length + 4, io.SEEK_CUR)
    png.seek(place)
    return kind == b"eXIf"
