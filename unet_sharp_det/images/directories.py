"""The chain of a TIFF's pages, checked before tifffile follows it and takes memory for it."""

import os
import struct
from typing import BinaryIO

from ..errors import DatasetError

_MOST_TAGS = 2**22  # of all pages together
_MOST_BYTES = 2**30  # that the tags of all pages take as Python's numbers and text
_NUMBER_BYTES = 40  # of an integer in a tuple
_TYPE_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TEXT_TYPES = (1, 2, 6, 7)
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_BELOW = 330  # SubIFDs: smaller copies of a page
# Size, bits, codec, colours, bit order, samples, strips, planes, predictor, tiles, type, depth.
_LAYOUT = {*(256, 257, 258, 259, 262, 266, 277, 278, 284, 317, 322, 323, 338, 339, 32997, 32998)}
_ONCE = {*_LAYOUT, 273, 279, 324, 325}  # and the places of strips and tiles
# Description, strips, tiles, resolution, palette, JPEG tables, ImageJ's metadata.
_TAGS_READ = {270, 273, 279, 282, 283, 320, 324, 325, 347, 50838, 50839}
# Sets whose further files tifffile finds by itself, and tables of pages that it trusts.
_KINDS_NOT_USED = {"is_mmstack": False, "is_ndtiff": False, "is_scanimage": False, "is_eer": False}


def open_checked(path):
    """Return tifffile's TiffFile of a file, and what :func:`check_directories` says of it."""
    from tifffile import TiffFile

    layouts = check_directories(path)
    return TiffFile(path, **_KINDS_NOT_USED), layouts


def check_directories(path) -> dict[int, tuple]:
    """Follow the pages of a TIFF, and check what tifffile passes over in silence.

    Returns:
        by the offset of a page, what its pixels are decoded by: equal layouts can share a decoder.

    Raises:
        DatasetError: pages or tags point back or behind the end of the file, are too many or too
            large, or a tag that must be unique stands twice.
    """
    with open(path, "rb") as file:
        return _Directories(file, path).follow()


class _Directories:
    def __init__(self, file: BinaryIO, path):
        self.file, self.path = file, path
        self.size = os.fstat(file.fileno()).st_size
        self.tags = self.bytes = 0
        head = file.read(16)
        self.order = "<" if head[:2] == b"II" else ">"
        is_big = b"+" in head[2:4]
        # As tifffile does: Hamamatsu's pages have the high halves of all offsets behind them.
        self.is_ndpi = head[:4] == b"II*\0" and str(path).lower().endswith(".ndpi")
        self.counts = struct.Struct(self.order + ("Q" if is_big else "H"))
        self.offsets = struct.Struct(self.order + ("Q" if is_big or self.is_ndpi else "I"))
        self.entries = struct.Struct(self.order + ("HHQ8s" if is_big else "HHI4s"))
        self.inline = 8 if is_big else 4
        self.first = struct.unpack_from(self.offsets.format, head.ljust(16, b"\0"), self.inline)[0]
        self.wraps = not is_big and not self.is_ndpi and self.size >= 2**32  # Zeiss LSM's do

    def follow(self) -> dict[int, tuple]:
        layouts: dict[int, tuple] = {}
        visited: set[int] = set()
        offset = self.first
        while offset:
            if offset in visited:
                raise self._corrupt("a page points back to an earlier one")
            visited.add(offset)
            layouts[offset], below, following = self._directory(offset)
            for sub in below:
                if 8 <= sub < self.size:
                    layouts[sub] = self._directory(sub)[0]
            if self.wraps and 0 < following <= offset:
                following += 2**32 * (1 + (offset - following) // 2**32)
            offset = following
        return layouts

    def _directory(self, offset: int) -> tuple[tuple, tuple, int]:
        """Return a page's layout, the offsets of pages below it, and that of the next one."""
        self.file.seek(offset)
        try:
            (count,) = self._read(self.counts)
            self._count(tags=count + 1)  # A page without tags takes memory, too.
            raw = self.file.read(count * self.entries.size)
            (following,) = self._read(self.offsets)
            highs = self._read(struct.Struct(f"<{count}I")) if self.is_ndpi else (0,) * count
            entries = list(self.entries.iter_unpack(raw))
        except struct.error:
            raise self._corrupt("it is truncated before its pages end") from None
        layout, seen, below = [], set(), ()
        for (code, kind, number, field), high in zip(entries, highs, strict=True):
            if code in seen and code in _ONCE:
                raise self._corrupt(f"a page has {_name(code)} twice")
            seen.add(code)
            length = number * _TYPE_BYTES.get(kind, 1)
            if length > self.inline:
                place = int.from_bytes(field, "little" if self.order == "<" else "big")
                place += high << 32
                if place + length > self.size:
                    if code in _TAGS_READ:
                        raise self._corrupt(f"it is truncated before its {_name(code)}")
                    continue
                self._count(bytes=length if kind in _TEXT_TYPES else number * _NUMBER_BYTES)
                field = None
            if code in _LAYOUT and kind not in _INTEGERS:
                raise self._corrupt(f"{_name(code)} is no whole number")
            if code in _LAYOUT or code == _BELOW and kind in _INTEGERS:
                data = os.pread(self.file.fileno(), length, place) if field is None else field
                form = f"{self.order}{number}{_INTEGERS[kind]}"
                values = struct.unpack(form, data[:length])
                if code == _BELOW:
                    below = values
                else:
                    layout.append((code, values))
        return (self.order, *sorted(layout)), below, following

    def _read(self, form: struct.Struct) -> tuple:
        return form.unpack(self.file.read(form.size))

    def _count(self, tags: int = 0, bytes: int = 0) -> None:
        self.tags, self.bytes = self.tags + tags, self.bytes + bytes
        if self.tags > _MOST_TAGS or self.bytes > _MOST_BYTES:
            raise DatasetError(
                f"{self.path}: has more than {_MOST_TAGS:,} tags or {_MOST_BYTES:,} bytes of "
                "memory in tags. Split it, or use larger strips or tiles."
            )

    def _corrupt(self, what: str) -> DatasetError:
        return DatasetError(f"{self.path}: is corrupt: {what}.")


def _name(code: int) -> str:
    from tifffile import TIFF

    return TIFF.TAGS[code]
