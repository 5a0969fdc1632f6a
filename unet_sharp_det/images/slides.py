"""Slides that tifffile does not read, or does not put together, by OpenSlide."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import DatasetError, one_line
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
    return PixelArray(
        pixels=_Pixels(slide, background, str(path)),
        levels=tuple(
            (_Pixels(slide, background, str(path), level), (*size[::-1], 3))
            for level, size in enumerate(slide.level_dimensions)
            if level
        ),
        letters="YXS",
        shape=(height, width, 3),
        dtype=np.dtype(np.uint8),
        colours=3,
        pixel_size=in_micrometres(sizes, ("um", "um")),
    )


@dataclass(frozen=True)
class _Pixels:
    """The pixels of a slide, read by slices."""

    slide: object
    background: str
    where: str
    level: int = 0

    def __getitem__(self, slices: tuple[slice, slice, slice]) -> np.ndarray:
        rows, columns, samples = slices
        size = columns.stop - columns.start, rows.stop - rows.start
        try:
            # OpenSlide takes a place in pixels of level 0, by its own mean of both sides' factors.
            factor = self.slide.level_downsamples[self.level]
            corner = round(columns.start * factor), round(rows.start * factor)
            region = self.slide.read_region(corner, self.level, size)
        except Exception as error:  # of any kind, from corrupt bytes
            raise DatasetError(f"{self.where}: cannot be decoded: {one_line(error)}") from error
        picture = Image.new("RGB", size, self.background)
        picture.paste(region, mask=region.getchannel("A"))
        return np.asarray(picture)[:, :, samples]
