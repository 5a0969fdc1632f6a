"""Zeiss CZI by Zeiss' own library, read window by window."""

from xml.etree import ElementTree

import numpy as np

from ..errors import DatasetError
from .frames import FramePixels, ReversedSamples
from .pixel_size import in_micrometres
from .planes import PixelArray, check_series

_TYPES = {
    "Gray8": (np.uint8, 1),
    "Gray16": (np.uint16, 1),
    "Gray32Float": (np.float32, 1),
    "Bgr24": (np.uint8, 3),
    "Bgr48": (np.uint16, 3),
}
_CHANNELS = "./Metadata/Information/Image/Dimensions/Channels/Channel"
_LENGTHS = "./Metadata/Scaling/Items/Distance"


def open_czi(path, series: int) -> PixelArray:
    """Open a scene of a CZI; a file without scenes has one. See :func:`.open_vendor_file`.

    What the microscope left out is black, or white in colour images.
    """
    from pylibCZIrw.czi import CziReader

    file = CziReader(str(path))
    scenes = sorted(file.scenes_bounding_rectangle.items())
    scenes = scenes or [(None, file.total_bounding_rectangle)]
    check_series(path, series, len(scenes))
    return _open_scene(file, *scenes[series], len(scenes), str(path))


def _open_scene(file, scene: int | None, corner, scenes: int, where: str) -> PixelArray:
    kinds = set(file.pixel_types.values())
    if len(kinds) != 1 or not kinds <= set(_TYPES):
        raise DatasetError(
            f"{where}: pixels of type {' and '.join(sorted(kinds))} cannot be read. Save it as "
            "OME-TIFF."
        )
    (kind,) = kinds
    dtype, samples = _TYPES[kind]
    box = {axis: size for axis, (_, size) in file.total_bounding_box.items() if axis not in "XY"}
    metadata = ElementTree.fromstring(file.raw_metadata)
    metres = {
        each.get("Id"): float(each.findtext("Value", "0")) for each in metadata.iterfind(_LENGTHS)
    }
    names = tuple(each.get("Name", "") for each in metadata.iterfind(_CHANNELS))

    def read(place: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
        return file.read(
            roi=(
                *(corner.x + columns.start, corner.y + rows.start),
                *(columns.stop - columns.start, rows.stop - rows.start),
            ),
            plane=dict(zip(box, place, strict=True)),
            scene=scene,
            background_pixel=(float(samples > 1),) * 3,
        )

    pixels = FramePixels(read, where)
    return PixelArray(
        pixels=ReversedSamples(pixels) if samples == 3 else pixels,
        letters="".join(box) + "YXS",
        shape=(*box.values(), corner.h, corner.w, samples),
        dtype=np.dtype(dtype),
        colours=samples,
        pixel_size=in_micrometres([metres.get(axis, 0.0) for axis in "YX"], ("m", "m")),
        series_count=scenes,
        channel_names=names if samples == 1 else (),
    )
