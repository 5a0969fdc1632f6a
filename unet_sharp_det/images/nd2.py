"""Nikon ND2 by the library nd2: windows of frames, or of compressed ones whole frames."""

import functools
import weakref
from math import prod

import numpy as np

from ..errors import DatasetError
from .frames import FramePixels, ReversedSamples
from .pixel_size import in_micrometres
from .planes import PixelArray, check_series

_POSITION = "P"
_LETTERS = {
    "TimeLoop": "T",
    "NETimeLoop": "T",
    "XYPosLoop": _POSITION,
    "ZStackLoop": "Z",
    "CustomLoop": "Q",
}


def open_nd2(path, series: int) -> PixelArray:
    """Open a position of the stage of an ND2; see :func:`.open_vendor_file`.

    Frames that were not taken are black.
    """
    from nd2 import ND2File

    with ND2File(path) as file:
        image = _open_position(file, path, series)
    weakref.finalize(image.pixels, file.close)
    file.open()
    return image


def _open_position(file, path, series: int) -> PixelArray:
    attributes = file.attributes
    compression = attributes.compressionType
    if compression == "lossy":
        raise DatasetError(f"{path}: its lossy compression is not read. Save it as OME-TIFF.")
    letters = "".join(_LETTERS[loop.type] for loop in file.experiment)
    counts = [loop.count for loop in file.experiment]
    axis = letters.find(_POSITION)
    positions = counts[axis] if axis >= 0 else 1
    check_series(path, series, positions)
    numbers = np.arange(prod(counts)).reshape(counts)  # of the frames
    if axis >= 0:
        numbers, letters = numbers.take(series, axis), letters.replace(_POSITION, "", 1)
    channels = attributes.channelCount or 1
    samples = attributes.componentCount // channels
    frame = channels, attributes.heightPx, attributes.widthPx, samples
    is_decoded = compression or file.is_legacy
    read_frame = functools.lru_cache(1)(file.read_frame) if is_decoded else file.read_frame

    def read(place: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
        *outer, channel = place
        return read_frame(numbers[tuple(outer)]).reshape(frame)[channel, rows, columns]

    pixels = FramePixels(read, str(path))
    metadata = file.metadata.channels or ()
    is_calibrated = any(each.volume.axesCalibrated[0] for each in metadata)
    size = file.voxel_size()
    return PixelArray(
        # Frames of version 1, in JPEG 2000, have the order of that.
        pixels=ReversedSamples(pixels) if samples == 3 and not file.is_legacy else pixels,
        letters=f"{letters}CYXS",
        shape=(*numbers.shape, *frame),
        dtype=file.dtype,
        colours=samples,
        pixel_size=in_micrometres((size.y, size.x), ("um", "um")) if is_calibrated else None,
        series_count=positions,
        channel_names=tuple(each.channel.name for each in metadata) if samples == 1 else (),
    )
