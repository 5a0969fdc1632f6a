"""Leica LIF: the library liffile says where pixels lie, which are read window by window."""

from math import prod

from ..errors import DatasetError
from .frames import ReversedSamples
from .pixel_size import in_micrometres
from .planes import PixelArray, check_series
from .tiff_pixels import RawPixels

_DESCRIPTION = "./Data/Image/ImageDescription"
_DYE = "./ChannelProperty[Key='DyeName']/Value"
_BLUE = "3"
_DIMENSIONS = "21"  # Y, X


def open_lif(path, series: int) -> PixelArray:
    """Open an image of a LIF, fluorescence lifetimes not counted; see :func:`.open_vendor_file`."""
    from liffile import LifFile

    with LifFile(path) as file:
        images = [image for image in file.images if not image.is_flim]
        check_series(path, series, len(images))
        return _open_image(images[series], str(path), len(images))


def _open_image(image, where: str, count: int) -> PixelArray:
    sizes, block = image.sizes, image.memory_block
    letters = "".join(sizes)
    samples = sizes.get("S", 1)
    channels = sorted(
        image.xml_element.iterfind(f"{_DESCRIPTION}/Channels/ChannelDescription"),
        key=lambda each: int(each.get("BytesInc")),
    )
    pixels = RawPixels(where, block.offset, image.dtype, _stored_shape(image, where))
    if samples == 3 and channels[0].get("ChannelTag") == _BLUE:
        pixels = ReversedSamples(pixels)
    return PixelArray(
        pixels=pixels,
        letters=letters,
        shape=tuple(sizes.values()),
        dtype=image.dtype,
        colours=samples,
        pixel_size=_pixel_size(image),
        series_count=count,
        channel_names=tuple(map(_channel_name, channels)) if samples == 1 else (),
    )


def _stored_shape(image, where: str) -> tuple[int, ...]:
    """Return the shape with rows as long as they are stored: those of colours may be padded."""
    sizes = image.sizes
    others = prod(size for axis, size in sizes.items() if axis != "X")
    row, rest = divmod(image.memory_block.size, others * image.dtype.itemsize)
    is_padded = row > sizes["X"]
    if row < sizes["X"] or is_padded and (rest or "S" not in sizes) or max(map(len, sizes)) > 1:
        raise DatasetError(f"{where}: the layout of its pixels is not read. Save it as OME-TIFF.")
    return tuple({**sizes, "X": row}.values())


def _pixel_size(image) -> tuple[float, float] | None:
    """Return (y, x) in micrometres. A length is from the first pixel's centre to the last one's."""
    found = [
        image.xml_element.find(f"{_DESCRIPTION}/Dimensions/DimensionDescription[@DimID='{number}']")
        for number in _DIMENSIONS
    ]
    if None in found:
        return None
    lengths = [
        abs(float(each.get("Length"))) / max(1, int(each.get("NumberOfElements")) - 1)
        for each in found
    ]
    return in_micrometres(lengths, [each.get("Unit") for each in found])


def _channel_name(channel) -> str:
    """Return the dye, like "ALEXA 488" of "Leica/ALEXA 488", else the name of its colours."""
    dye = channel.findtext(_DYE, "").rpartition("/")[2]
    return dye or channel.get("LUTName", "")
