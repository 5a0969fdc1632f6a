"""Size and bits of an image from the beginning of its file, before anything is decoded."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_HEAD = 32
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS = 256, 257, 258
_JPEG_END = 0xD9
#: Frame headers SOF0..SOF15, without DHT, JPG and DAC, which have numbers among them.
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: In compressed data FF is followed by 00 or a restart marker, so anything else is a marker.
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


@dataclass(frozen=True)
class ImageHeader:
    """What the beginning of a file says of its image.

    Attributes:
        shape: (height, width) in pixels; None: the format is not known, or it does not say.
        is_cut_short: the end of a JPEG is missing, which OpenCV fills up with gray. Of other
            formats False: OpenCV itself refuses half a file.
        is_one_bit: a pixel has one bit, of which OpenCV makes 0 and 255, or the two colours of a
            palette. Only PNG, TIFF and BMP can have it.
    """

    shape: tuple[int, int] | None
    is_cut_short: bool = False
    is_one_bit: bool = False


def read_header(path) -> ImageHeader:
    """Read the header of a PNG, JPEG, TIFF, BMP, GIF or WebP; of a TIFF that of its first page.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        head = file.read(_HEAD)
        if head[:2] == b"\xff\xd8":
            return _jpeg_header(head + file.read())
        try:
            return _header(file, head)
        except struct.error:  # The file ends within its header.
            return ImageHeader(None)


def _header(file: BinaryIO, head: bytes) -> ImageHeader:
    bits = 8
    if head[:4] == b"\x89PNG":
        width, height, bits = struct.unpack_from(">IIB", head, 16)
    elif head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff_header(file, head)
    elif head[:4] == b"GIF8":
        width, height = struct.unpack_from("<HH", head, 6)
    elif head[:2] == b"BM":
        is_old = struct.unpack_from("<I", head, 14)[0] == 12
        width, height, _, bits = struct.unpack_from("<HHHH" if is_old else "<iiHH", head, 18)
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        width, height = _webp_size(head)
    else:
        return ImageHeader(None)
    return ImageHeader((abs(height), abs(width)), is_one_bit=bits == 1)


def _webp_size(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8X":
        sides = head[24:27], head[27:30]
        return tuple(int.from_bytes(side, "little") + 1 for side in sides)
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", head, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF


def _tiff_header(file: BinaryIO, head: bytes) -> ImageHeader:
    order = "<" if head[:2] == b"II" else ">"
    is_big = b"+" in head[2:4]
    offset, count, size = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    file.seek(struct.unpack_from(order + offset, head, 8 if is_big else 4)[0])
    count = struct.unpack(order + count, file.read(struct.calcsize(order + count)))[0]
    entries = file.read(min(count, 1 << 16) * size)
    values = {_TIFF_BITS: 1}
    for start in range(0, len(entries), size):
        tag, kind, number = struct.unpack_from(order + "HH" + offset, entries, start)
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS):
            form = {3: "H", 16: "Q"}.get(kind, "I")
            (value,) = struct.unpack_from(order + form, entries, start + (12 if is_big else 8))
            values[tag] = value if number == 1 or tag != _TIFF_BITS else None  # of all samples
    if _TIFF_WIDTH not in values or _TIFF_HEIGHT not in values:
        return ImageHeader(None)
    shape = (values[_TIFF_HEIGHT], values[_TIFF_WIDTH])
    return ImageHeader(shape, is_one_bit=values[_TIFF_BITS] == 1)


def _jpeg_header(data: bytes) -> ImageHeader:
    shape = None
    for marker, start in _jpeg_segments(data):
        if marker == _JPEG_END:
            return ImageHeader(shape)
        if shape is None and marker in _JPEG_FRAMES and len(data) >= start + 7:
            shape = struct.unpack_from(">HH", data, start + 3)
    return ImageHeader(shape, is_cut_short=True)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield each marker with the offset of what follows it."""
    position = 2
    while found := _JPEG_MARKER.search(data, position):
        marker, position = data[found.end() - 1], found.end()
        yield marker, position
        if marker not in (0x01, 0xD8):
            position += int.from_bytes(data[position : position + 2], "big")
