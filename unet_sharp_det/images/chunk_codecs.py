"""Decoding of a TIFF's strips and tiles into no more memory than the TIFF says they take."""

import re
import struct
from collections.abc import Iterator

import cv2
import numpy as np

#: The codecs whose data have an image size of their own, by the number of the compression.
_IMAGE_CODECS = {
    **dict.fromkeys((6, 7, 33007, 34892), "jpeg"),
    **dict.fromkeys((33003, 33004, 33005, 34712), "jpeg2k"),
    34933: "png",
    50001: "webp",
    **dict.fromkeys((50002, 52546), "jpegxl"),
    **dict.fromkeys((22610, 34934), "jpegxr"),
}
#: JPEG fills up missing blocks with gray in silence, JPEG XR with anything. What follows the last
#: block changes nothing, so where more data change the pixels, blocks are missing.
_FURTHER = b"\xaa\x55" * 2048
_JPEG_END = b"\xff\xd9"
_APERIO_YCBCR = 33003  # whatever its photometric interpretation says
_YCBCR = 6
_CODESTREAM = b"\xff\x4f\xff\x51"  # of JPEG 2000, before sizes and the steps of components
_SYCC = b"colr\x01\0\0\0\0\0\x12"


class ChunkDecoder:
    """Decodes the strips or tiles of pages that are alike.

    Args:
        page: tifffile's, of a file that is open.
    """

    def __init__(self, page):
        import imagecodecs
        from tifffile.tifffile import jpeg_decode_colorspace

        self._page = page
        self._codec = _IMAGE_CODECS.get(int(page.compression))
        self._options = {}
        if self._codec is None:
            self._decode = page.decode
            return
        self._decode = getattr(imagecodecs, f"{self._codec}_decode")
        if self._codec == "jpeg":
            kind = page.photometric, page.planarconfig, page.extrasamples, page.is_jfif
            names = "colorspace", "outcolorspace"
            self._options = dict(zip(names, jpeg_decode_colorspace(*kind), strict=True))
        elif self._codec == "webp" and page.samplesperpixel == 4:
            self._options = {"hasalpha": True}  # which may be left out where all is opaque

    def __call__(self, data: bytes, index: int, tables: bytes | None) -> np.ndarray:
        """Decode a strip or tile.

        Args:
            data: as stored.
            index: in its page.
            tables: of JPEG, or None.

        Returns:
            (depth, length, width, samples).

        Raises:
            Exception: of any kind, from corrupt data.
        """
        page = self._page
        if self._codec is None:
            return self._decode(data, index)[0]
        options = self._options
        if self._codec == "jpeg":
            options = {**options, "tables": tables, "header": page.jpegheader}
        pixels = self._decode_image(data, index, options)
        if self._codec == "jpegxr" or self._codec == "jpeg" and _ends_flat(pixels):
            end = data.rfind(_JPEG_END) if self._codec == "jpeg" else -1
            longer = data + _FURTHER if end < 0 else data[:end] + _FURTHER + data[end:]
            if not np.array_equal(pixels, self._decode_image(longer, index, options)):
                raise ValueError("the data are truncated")
        is_ycbcr = int(page.compression) == _APERIO_YCBCR or int(page.photometric) == _YCBCR
        if self._codec == "jpeg2k" and is_ycbcr and page.shaped[-1] == 3 and not _gives_rgb(data):
            pixels = cv2.cvtColor(pixels[:, :, [0, 2, 1]], cv2.COLOR_YCrCb2RGB)
        return pixels.reshape(_shape_of_chunk(pixels, page))

    def _decode_image(self, data: bytes, index: int, options: dict) -> np.ndarray:
        shapes, problem = list(_shapes(self._page, index)), None
        if self._codec == "jpeg2k" and not _jpeg2k_sizes(data) <= {each[-3:] for each in shapes}:
            raise ValueError("the data are an image of another size")
        for shape in shapes:
            if self._codec == "jpeg":
                options["shape"] = shape[:2]  # which the headers of NDPI lack
            try:  # all but JPEG 2000 compare it with their own header first
                return self._decode(data, out=np.empty(shape, self._page.dtype), **options)
            except ValueError as error:
                problem = error
        raise ValueError(f"the data are an image of another size ({problem})")


def _ends_flat(pixels: np.ndarray) -> bool:
    corner = pixels[-4:, -4:]
    return bool((corner == corner[-1:, -1:]).all())


def _shape_of_chunk(pixels: np.ndarray, page) -> tuple[int, int, int, int]:
    samples = page.shaped[-1]
    size = pixels.shape[:-1] if samples > 1 else pixels.shape
    return (*((1,) * (3 - len(size))), *size, samples)


def _shapes(page, index: int) -> Iterator[tuple[int, ...]]:
    """Yield the shapes that an image may have: at the edges, of all or of what lies inside."""
    _, _, length, width, samples = page.shaped
    depth = (page.tiledepth,) if page.is_tiled and page.tiledepth > 1 else ()
    last = (samples,) if samples > 1 else ()
    if page.is_tiled:
        rows, columns = page.tilelength, page.tilewidth
        across, down = -(-width // columns), -(-length // rows)
        right = min(columns, width - index % across * columns)
        below = min(rows, length - index // across % down * rows)
        sizes = (rows, columns), (below, right), (below, columns)
    else:
        rows = page.rowsperstrip
        below = min(rows, length - index % -(-length // rows) * rows)
        sizes = (below, width), (rows, width)
    for size in dict.fromkeys(sizes):
        yield (*depth, *size, *last)


def _jpeg2k_sizes(data: bytes) -> set[tuple[int, ...]]:
    """Return (height, width), and samples if several, of what may be a codestream in the data."""
    sizes = set()
    for found in re.finditer(re.escape(_CODESTREAM), data):
        x1, y1, x0, y0 = struct.unpack_from(">4I", data, found.start() + 8)
        (samples,) = struct.unpack_from(">H", data, found.start() + 40)
        sizes.add((y1 - y0, x1 - x0, samples)[: 3 if samples > 1 else 2])
    return sizes


def _gives_rgb(data: bytes) -> bool:
    """Return whether the decoder converts JPEG 2000 itself: marked as YCC, or with fewer Cb, Cr."""
    start = data.find(_CODESTREAM) + 42
    steps = data[start + 1 : start + 9]
    return _SYCC in data[:start] or any(step != 1 for at, step in enumerate(steps) if at % 3 < 2)
