"""TIFF files of every kind that tifffile writes, with the pixels that a model must see of each."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, product

import numpy as np

SHAPE = (40, 52)
CHANNELS = "has [24] channels"

LOSSLESS = {
    "none": {},
    "packbits": {"compression": "packbits"},
    "lzw": {"compression": "lzw"},
    "lzw, predictor": {"compression": "lzw", "predictor": True},
    "deflate": {"compression": "zlib"},
    "deflate, predictor": {"compression": "zlib", "predictor": True},
    "lzma": {"compression": "lzma"},
    "zstd": {"compression": "zstd"},
    "lerc": {"compression": "lerc"},
    "png": {"compression": "png"},
    "jpeg 2000": {"compression": "jpeg2000"},
    "jpeg xl": {"compression": "jpegxl", "compressionargs": {"lossless": True}},
    "webp": {"compression": "webp", "compressionargs": {"lossless": True}},
}
LOSSY = {
    "jpeg": {"compression": "jpeg", "compressionargs": {"level": 95}},
    "lossy jpeg 2000": {"compression": "jpeg2000", "compressionargs": {"level": 60}},
    "lossy jpeg xl": {"compression": "jpegxl", "compressionargs": {"distance": 0.5}},
    "lossy webp": {"compression": "webp", "compressionargs": {"level": 95}},
}
TYPES = {
    **dict.fromkeys(LOSSLESS, ("u1", "u2", "u4", "i1", "i2", "f2", "f4", "f8")),
    "packbits": ("u1", "u2", "i1", "i2"),
    "lzma": ("u1", "u2", "f4"),
    "lzw, predictor": ("u1", "u2", "u4", "i1", "i2", "f4"),
    "deflate, predictor": ("u1", "u2", "u4", "i1", "i2", "f4"),
    "lerc": ("u1", "u2", "u4", "i1", "i2", "f4", "f8"),
    "png": ("u1", "u2"),
    "jpeg 2000": ("u1", "u2", "i1", "i2"),
    "jpeg xl": ("u1", "u2", "f4"),
    "lossy jpeg 2000": ("u1", "u2"),
    **dict.fromkeys(("webp", "jpeg", "lossy jpeg xl", "lossy webp"), ("u1",)),
}
LAYOUTS = ({"rowsperstrip": 16}, {"tile": (16, 32)})
ORDERS = ({}, {"byteorder": ">"}, {"bigtiff": True}, {"bigtiff": True, "byteorder": ">"})

PLANAR, CONTIGUOUS = {"planarconfig": "separate"}, {"planarconfig": "contig"}
GRAY, RGB = {"photometric": "minisblack"}, {"photometric": "rgb"}
#: By name: how many samples, how many of them are colours (0: none can be chosen), settings.
KINDS = {
    "gray": (1, 1, GRAY),
    "gray and alpha": (2, 1, {**GRAY, **CONTIGUOUS, "extrasamples": ["unassalpha"]}),
    "RGB": (3, 3, RGB),
    "planar RGB": (3, 3, {**RGB, **PLANAR}),
    "3 channels": (3, 3, {**GRAY, **CONTIGUOUS}),
    "planar, 3 channels": (3, 3, {**GRAY, **PLANAR}),
    "RGBA": (4, 3, {**RGB, "extrasamples": ["unassalpha"]}),
    "RGBA, premultiplied": (4, 3, {**RGB, "extrasamples": ["assocalpha"]}),
    "RGB and a channel": (4, 3, {**RGB, "extrasamples": ["unspecified"]}),
    "planar RGBA": (4, 3, {**RGB, **PLANAR, "extrasamples": ["unassalpha"]}),
    "2 channels": (2, 0, {**GRAY, **CONTIGUOUS}),
    "4 channels": (4, 0, {**GRAY, **CONTIGUOUS}),
}
FEW_KINDS = {  # of the codecs that know nothing of other samples
    "png": ("gray", "RGB", "RGBA", "3 channels"),
    "jpeg 2000": ("gray", "RGB", "planar RGB", "RGBA", "3 channels", "2 channels"),
    "jpeg xl": ("gray", "RGB", "planar RGB", "RGBA", "3 channels"),
    "lerc": ("gray", "RGB", "planar RGB", "RGBA", "2 channels"),
    "webp": ("RGB", "RGBA"),
    "jpeg": ("gray", "RGB"),
    "lossy jpeg 2000": ("gray", "RGB"),
    "lossy jpeg xl": ("gray", "RGB"),
    "lossy webp": ("RGB",),
}


@dataclass(frozen=True)
class Variant:
    """A file to write and what is to be read.

    Attributes:
        name: of the kind.
        written: what ``tifffile.imwrite`` gets.
        settings: the same.
        values: (H, W, 1 or 3), what a prediction's window holds; None: the file is to be refused.
        labels: (H, W), what a label map is read as; None: it is none.
        tolerance: the mean difference that a lossy codec may make, of 255 levels.
    """

    name: str
    written: np.ndarray
    settings: dict
    values: np.ndarray | None
    labels: np.ndarray | None = None
    tolerance: float = 0

    @property
    def seen(self) -> np.ndarray:
        """float (H, W, 3), what a model sees: by the definition, without the package's code."""
        values = self.values.astype(np.float64)
        if self.values.dtype != np.uint8:
            low, high = np.percentile(values, (1, 99.8))
            values = 255 * np.clip((values - low) / (high - low), 0, 1)
        return np.broadcast_to(values, (*SHAPE, 3))


def variants(codec: str) -> Iterator[Variant]:
    """Yield the files of a codec, of each type of pixel, kind of channels and layout."""
    orders = cycle(ORDERS)
    kinds = FEW_KINDS.get(codec, KINDS)
    for dtype, kind, layout in product(TYPES[codec], kinds, LAYOUTS):
        samples, colours, settings = KINDS[kind]
        order = next(orders)
        if codec in FEW_KINDS:  # whose own streams have an order of bytes
            order = {key: value for key, value in order.items() if key != "byteorder"}
        stored = picture(samples, dtype)
        written = stored[:, :, 0] if samples == 1 else stored
        yield Variant(
            name=f"{codec}, {dtype}, {kind}, {[*layout, *order]}",
            written=np.moveaxis(written, 2, 0) if "planar" in kind else written,
            settings={**{**LOSSLESS, **LOSSY}[codec], **settings, **layout, **order},
            values=stored[:, :, :colours] if colours else None,
            labels=written if samples == 1 and dtype[0] in "ui" and codec in LOSSLESS else None,
            tolerance=3 if codec in LOSSY else 0,
        )


def special_variants() -> Iterator[Variant]:
    """Yield bits, palettes, white as 0, and files that hold several planes."""
    gray = picture(1, "u1")
    bits = gray[:, :, 0] > 100
    colours = np.random.default_rng(1).integers(0, 2**16, (3, 256), np.uint16)
    for codec, layout in product(({}, {"compression": "zlib"}), LAYOUTS):
        common = {**codec, **layout}
        black, white = {"photometric": "minisblack"}, {"photometric": "miniswhite"}
        name = f"{[*codec, *layout]}"
        palette = {"photometric": "palette", "colormap": colours}
        by_palette = (colours >> 8).astype(np.uint8).T[gray[:, :, 0]]
        bright = (bits * np.uint8(255))[:, :, None]
        yield Variant(f"bits, {name}", bits, {**common, **black}, bright, bits)
        yield Variant(f"bits, white is 0, {name}", bits, {**common, **white}, 255 - bright, bits)
        yield Variant(
            f"white is 0, {name}", gray[:, :, 0], {**common, **white}, 255 - gray, gray[:, :, 0]
        )
        yield Variant(
            f"palette, {name}", gray[:, :, 0], {**common, **palette}, by_palette, gray[:, :, 0]
        )
        for dtype in ("u1", "u2", "f4"):
            stack = np.moveaxis(picture(5, dtype), 2, 0)
            yield Variant(f"5 pages, {dtype}, {name}", stack, {**common, **black}, None)


def picture(samples: int, dtype: str) -> np.ndarray:
    """Return waves (H, W, samples) that are smooth, unlike in each sample, and fill no type."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    waves = [np.sin(rows / (7 + i)) + np.cos(columns / (9 - i)) + i / 4 for i in range(samples)]
    share = (np.stack(waves, axis=2) + 2) / 5.5
    if dtype == "f8":
        return share * 1e300
    if dtype[0] == "f":
        return (share * 3 - 1).astype(dtype)
    if dtype == "u4":
        return (2**31 + share * 1000).astype(dtype)
    info = np.iinfo(dtype)
    return (info.min // 2 + share * (info.max // 2 - info.min // 2)).astype(dtype)
