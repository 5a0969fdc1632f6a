"""Decoding of a TIFF's strips and tiles into no more memory than the TIFF says they take."""

import cv2
import numpy as np

from .formats import CODESTREAM, is_complete, jpeg2000_sizes

#: The codecs whose data have an image size of their own, by the number of the compression.
_IMAGE_CODECS = {
    **dict.fromkeys((6, 7, 33007, 34892), "jpeg"),
    **dict.fromkeys((33003, 33004, 33005, 34712), "jpeg2k"),
    34933: "png",
    50001: "webp",
    **dict.fromkeys((50002, 52546), "jpegxl"),
    **dict.fromkeys((22610, 34934), "jpegxr"),
}
_APERIO_YCBCR = 33003  # whatever its photometric interpretation says
_YCBCR = 6
_SYCC = b"colr\x01\0\0\0\0\0\x12"


class ChunkDecoder:
    """Decodes the strips or tiles of pages that are like a page of tifffile's."""

    def __init__(self, page):
        import imagecodecs
        from tifffile.tifffile import jpeg_decode_colorspace

        self._page = page
        self._codec = _IMAGE_CODECS.get(int(page.compression))
        self._options = {}
        if self._codec is None:
            return
        self._decode = getattr(imagecodecs, f"{self._codec}_decode")
        if self._codec == "jpeg":
            kind = page.photometric, page.planarconfig, page.extrasamples, page.is_jfif
            names = "colorspace", "outcolorspace"
            self._options = dict(zip(names, jpeg_decode_colorspace(*kind), strict=True))
            self._options["header"] = page.jpegheader
        elif self._codec == "webp" and page.samplesperpixel == 4:
            self._options = {"hasalpha": True}  # which may be left out where all is opaque

    def __call__(self, data: bytes, index: int, tables: bytes | None) -> np.ndarray:
        """Decode a strip or tile, the ``index``-th of its page; ``tables`` are JPEG's.

        Returns:
            (depth, length, width, samples).

        Raises:
            Exception: of any kind, from corrupt data.
        """
        if self._codec is None:
            return self._page.decode(data, index)[0]
        shapes = self._shapes(index)
        pixels = self._decode_image(data, shapes, tables)
        if self._codec == "jpegxr" or self._codec == "jpeg" and _ends_flat(pixels):
            # JPEG fills up missing blocks with gray in silence, JPEG XR with anything.
            end = data.rfind(b"\xff\xd9") if self._codec == "jpeg" else -1
            if not is_complete(
                pixels, data, end, lambda longer: self._decode_image(longer, shapes, tables)
            ):
                raise ValueError("the data are truncated")
        if self._codec == "jpeg2k" and self._is_ycbcr(data):
            pixels = cv2.cvtColor(pixels[:, :, [0, 2, 1]], cv2.COLOR_YCrCb2RGB)
        samples = self._page.shaped[-1]
        size = pixels.shape[:-1] if samples > 1 else pixels.shape
        return pixels.reshape((1,) * (3 - len(size)) + size + (samples,))

    def _shapes(self, index: int) -> list[tuple[int, ...]]:
        """Return the shapes that an image may have: at the edges, of all or of what is inside."""
        page = self._page
        _, (_, _, top, left, _), (depth, rows, columns, samples) = page.decode(None, index)
        below, right = page.shaped[2] - top, page.shaped[3] - left
        inside = min(rows, below), min(columns, right)
        sizes = [(rows, columns), inside, (inside[0], columns)]
        if not page.is_tiled:
            sizes.append((page.rowsperstrip, columns))
        first, last = (depth,) * (depth > 1), (samples,) * (samples > 1)
        return [(*first, *size, *last) for size in dict.fromkeys(sizes)]

    def _decode_image(self, data: bytes, shapes, tables: bytes | None) -> np.ndarray:
        options, problem = dict(self._options), None
        if self._codec == "jpeg2k":
            sizes = {size[: 2 + (size[2] > 1)] for size in jpeg2000_sizes(data)}
            if not sizes <= {shape[-3:] for shape in shapes}:
                raise ValueError("the data are an image of another size")
        for shape in shapes:
            if self._codec == "jpeg":  # the headers of NDPI lack the shape
                options |= {"tables": tables, "shape": shape[:2]}
            try:  # all but JPEG 2000 compare it with their own header first
                return self._decode(data, out=np.empty(shape, self._page.dtype), **options)
            except ValueError as error:
                problem = error
        raise ValueError(f"the data are an image of another size ({problem})")

    def _is_ycbcr(self, data: bytes) -> bool:
        """Return whether the decoder has left the colours of JPEG 2000 to be converted."""
        page = self._page
        if int(page.compression) != _APERIO_YCBCR and int(page.photometric) != _YCBCR:
            return False
        start = data.find(CODESTREAM) + 42
        steps = data[start + 1 : start + 9]
        # It converts what is marked as YCC, or where Cb and Cr have fewer pixels.
        is_converted = _SYCC in data[:start] or any(steps[at] != 1 for at in (0, 1, 3, 4, 6, 7))
        return page.shaped[-1] == 3 and not is_converted


def _ends_flat(pixels: np.ndarray) -> bool:
    corner = pixels[-4:, -4:]
    return bool((corner == corner[-1:, -1:]).all())
