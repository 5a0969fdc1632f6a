"""Slides that tifffile does not read, or does not put together, by OpenSlide."""

import numpy as np
from PIL import Image

from .frames import FramePixels
from .pixel_size import in_micrometres
from .planes import PixelArray, check_series


def open_slide(path, series: int) -> PixelArray:
    """Open a slide and its levels, uint8 in RGB; see :func:`.open_vendor_file`.

    What the scanner left out has the slide's colour of the background, else white.
    """
    import openslide

    slide = openslide.OpenSlide(path)
    check_series(path, series, 1)
    width, height = slide.dimensions
    sizes = [float(slide.properties.get(f"openslide.mpp-{axis}", 0)) for axis in "yx"]
    background = f"#{slide.properties.get('openslide.background-color', 'ffffff')}"
    levels = tuple(
        (_pixels(slide, level, background, str(path)), (*size[::-1], 3))
        for level, size in enumerate(slide.level_dimensions)
    )
    return PixelArray(
        pixels=levels[0][0],
        levels=levels[1:],
        letters="YXS",
        shape=(height, width, 3),
        dtype=np.dtype(np.uint8),
        colours=3,
        pixel_size=in_micrometres(sizes, ("um", "um")),
    )


def _pixels(slide, level: int, background: str, where: str) -> FramePixels:
    # OpenSlide takes a place in pixels of level 0, by its own mean of both sides' factors.
    factor = slide.level_downsamples[level]

    def read(_, rows: slice, columns: slice) -> np.ndarray:
        size = columns.stop - columns.start, rows.stop - rows.start
        corner = round(columns.start * factor), round(rows.start * factor)
        region = slide.read_region(corner, level, size)
        picture = Image.new("RGB", size, background)
        picture.paste(region, mask=region.getchannel("A"))
        return np.asarray(picture)

    return FramePixels(read, where)
