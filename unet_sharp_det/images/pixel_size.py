"""The size of a pixel in micrometres, from what a TIFF file says about itself."""

import math
import re
import xml.etree.ElementTree as ElementTree

MICROMETRES = {
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre"), 1.0),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
}
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_CENTIMETRE = 3


def tiff_pixel_size(tiff, page, series: int) -> tuple[float, float] | None:
    """Return (y, x) in micrometres, or None.

    It comes from OME's PhysicalSizeX and PhysicalSizeY, ImageJ's unit with the resolution, Zeiss
    LSM's VoxelSizeX and VoxelSizeY, Aperio's MPP, or the resolution of a Hamamatsu NDPI. Elsewhere
    the resolution alone, in inches or centimetres, is no size: programs write 72 or 96 dots per
    inch, those of a screen, into whatever they save.

    Args:
        tiff: an open tifffile.TiffFile.
        page: the first page of the series.
        series: its number, from 0.
    """
    if tiff.is_ome:
        return _ome(tiff.ome_metadata, series)
    if tiff.is_imagej:
        unit = (tiff.imagej_metadata or {}).get("unit", "")
        return _sizes(1, unit, _pixels_per_unit(page, _Y_RESOLUTION, _X_RESOLUTION))
    if tiff.is_svs:
        found = re.search(r"\|\s*MPP\s*=\s*([\d.]+)", page.description)
        return _sizes(float(found.group(1)), "um", (1, 1)) if found else None
    if tiff.is_lsm:
        metadata = tiff.lsm_metadata or {}
        return _plausible(*(float(metadata.get(f"VoxelSize{axis}", 0)) * 1e6 for axis in "YX"))
    if tiff.is_ndpi and page.tags.valueof(_RESOLUTION_UNIT) == _CENTIMETRE:
        return _sizes(10, "mm", _pixels_per_unit(page, _Y_RESOLUTION, _X_RESOLUTION))
    return None


def _ome(text: str, series: int) -> tuple[float, float] | None:
    try:
        images = [e for e in ElementTree.fromstring(text).iter() if e.tag.endswith("}Pixels")]
        pixels = images[series].attrib
        sizes = [
            float(pixels[f"PhysicalSize{axis}"])
            * MICROMETRES[pixels.get(f"PhysicalSize{axis}Unit", "µm")]
            for axis in "YX"
        ]
    except (ElementTree.ParseError, LookupError, ValueError):
        return None
    return _plausible(*sizes)


def _pixels_per_unit(page, *tags: int) -> tuple[float, float] | None:
    """Return the resolutions of the tags, fractions of two integers, or None."""
    values = [page.tags.valueof(tag) for tag in tags]
    if any(not isinstance(value, tuple) or 0 in value for value in values):
        return None
    return tuple(value[0] / value[1] for value in values)


def _sizes(length: float, unit: str, per_unit: tuple[float, float] | None):
    unit = unit.replace("\\u00B5", "µ").strip().lower() if isinstance(unit, str) else ""
    if unit not in MICROMETRES or per_unit is None:
        return None
    return _plausible(*(length * MICROMETRES[unit] / resolution for resolution in per_unit))


def _plausible(y: float, x: float) -> tuple[float, float] | None:
    return (y, x) if all(math.isfinite(size) and size > 0 for size in (y, x)) else None
