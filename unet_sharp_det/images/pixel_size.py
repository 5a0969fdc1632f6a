"""The size of a pixel in micrometres, from what a file says about itself."""

import logging
import math
import re
from collections.abc import Iterable, Mapping
from xml.etree import ElementTree

logger = logging.getLogger(__name__)

#: Units of OME that pixels are measured in, and names that users of ImageJ write.
MICROMETRES = {
    "pm": 1e-6,
    **dict.fromkeys(("\u00c5", "\u212b", "angstrom"), 1e-4),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("\u00b5m", "\u03bcm", "um", "micron", "microns"), 1.0),
    **dict.fromkeys(("micrometer", "micrometre"), 1.0),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("in", "inch", "inches"), 25_400.0),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
}
_NO_LENGTHS = ("", "pixel", "pixels", "reference frame", "none")
_SCREEN_DOTS = (72, 96)  # per inch, which programs write into whatever they save
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_CENTIMETRE = 3
_PHILIPS_SPACING = (  # of the slide's image, not that of its label
    "Attribute[@Name='PIM_DP_SCANNED_IMAGES']/Array/DataObject[Attribute='WSI']/"
    "Attribute[@Name='DICOM_PIXEL_SPACING']"
)


def tiff_pixel_size(tiff, page) -> tuple[float, float] | None:
    """Return (y, x) in micrometres, or None; one that cannot be read is left out with a warning.

    It comes from ImageJ's unit with the resolution, Zeiss LSM's VoxelSizeX and VoxelSizeY,
    Aperio's MPP, Philips' DICOM_PIXEL_SPACING, or the resolution of a Hamamatsu NDPI; for OME see
    :func:`ome_pixel_size`.
    Elsewhere the resolution alone is no size: programs write that of a screen into all they save.
    """
    try:
        return _tiff_pixel_size(tiff, page)
    except Exception as error:  # any kind may come out of corrupt metadata
        _warn(f"{tiff.filename}: its pixel size cannot be read ({type(error).__name__}).")
        return None


def _tiff_pixel_size(tiff, page) -> tuple[float, float] | None:
    resolution = [page.tags.valueof(tag) for tag in (_Y_RESOLUTION, _X_RESOLUTION)]
    if tiff.is_imagej and None not in resolution:
        metadata = tiff.imagej_metadata or {}
        unit = metadata.get("unit", "")
        if unit in ("in", "inch") and all(top in _SCREEN_DOTS for top, _ in resolution):
            return None
        return in_micrometres(map(_length, resolution), (metadata.get("yunit", unit), unit))
    if tiff.is_svs:
        found = re.search(r"\|\s*MPP\s*=\s*([^|\s]*)", page.description)
        return in_micrometres([float(found.group(1))] * 2, ("um", "um")) if found else None
    if tiff.is_philips:
        found = ElementTree.fromstring(tiff.philips_metadata).findtext(_PHILIPS_SPACING, "")
        return in_micrometres(map(float, re.findall(r'"([^"]*)"', found)), ("mm", "mm"))
    if tiff.is_lsm:
        metadata = tiff.lsm_metadata or {}
        return in_micrometres(
            [float(metadata.get(f"VoxelSize{axis}", 0)) for axis in "YX"], ("m", "m")
        )
    if tiff.is_ndpi and page.tags.valueof(_RESOLUTION_UNIT) == _CENTIMETRE:
        return in_micrometres(map(_length, resolution), ("cm", "cm"))
    return None


def ome_pixel_size(pixels: Mapping[str, str]) -> tuple[float, float] | None:
    """Return (y, x) in micrometres from the attributes of OME's Pixels, or None."""
    sizes = [pixels.get(f"PhysicalSize{axis}") for axis in "YX"]
    if None in sizes:
        return None
    units = [pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "YX"]
    try:
        return in_micrometres([float(size) for size in sizes], units)
    except ValueError:
        _warn(f"OME-XML: PhysicalSizeY and X are {sizes}, no numbers.")
        return None


def in_micrometres(lengths: Iterable[float], units: Iterable[str]) -> tuple[float, float] | None:
    """Return the (y, x) of a pixel, lengths in their units, in micrometres.

    None: one is no length, or its unit is none, or not known, which gives a warning.
    """
    factors = [_factor(unit) for unit in units]
    if None in factors:
        return None
    y, x = (length * factor for length, factor in zip(lengths, factors, strict=True))
    return (y, x) if all(math.isfinite(size) and size > 0 for size in (y, x)) else None


def _length(resolution: tuple[int, int]) -> float:
    """Return the length of a pixel, the inverse of a fraction."""
    numerator, denominator = resolution
    return denominator / numerator if numerator else 0.0


def _factor(unit) -> float | None:
    text = unit.replace("\\u00B5", "µ").strip() if isinstance(unit, str) else ""
    factor = MICROMETRES.get(text) or MICROMETRES.get(text.lower())
    if factor is None and text.lower() not in _NO_LENGTHS:
        _warn(f"The unit of the pixel size, {text[:20]!r}, is not known.")
    return factor


def _warn(problem: str) -> None:
    logger.warning(f"{problem} Areas are given in pixels alone; say --pixel-size.")
