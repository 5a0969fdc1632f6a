"""Zeiss CZI by Zeiss' own library, read window by window."""

import itertools
from dataclasses import dataclass
from pathlib import PurePath
from xml.etree import ElementTree

import numpy as np

from ..errors import DatasetError, UserError, one_line
from .ome import no_series_error
from .planes import PixelArray

_TYPES = {
    "Gray8": (np.uint8, 1),
    "Gray16": (np.uint16, 1),
    "Gray32Float": (np.float32, 1),
    "Bgr24": (np.uint8, 3),
    "Bgr48": (np.uint16, 3),
}
_CHANNELS = "./Metadata/Information/Image/Dimensions/Channels/Channel"
_LENGTHS = "./Metadata/Scaling/Items/Distance"


def is_czi(path) -> bool:
    """Return whether the name of a file is that of a CZI."""
    return PurePath(path).suffix.lower() == ".czi"


def open_czi(path, series: int) -> PixelArray:
    """Open a scene of a CZI without reading its pixels.

    What the microscope left out is black, or white in colour images.

    Args:
        path: the file.
        series: which scene, from 0; a file without scenes has one.

    Raises:
        DatasetError: the file is corrupt, or has pixels that are not read.
        UserError: the package pylibCZIrw is missing, or there is no such scene.
    """
    try:
        from pylibCZIrw.czi import CziReader
    except ModuleNotFoundError as error:
        raise UserError(
            f"{path}: Zeiss CZI takes pylibCZIrw. Run: pip install 'unet_sharp_det[czi]'"
        ) from error
    try:
        file = CziReader(str(path))
        scenes = sorted(file.scenes_bounding_rectangle.items())
        scenes = scenes or [(None, file.total_bounding_rectangle)]
        if not 0 <= series < len(scenes):
            raise no_series_error(path, series, len(scenes))
        return _open_scene(file, *scenes[series], len(scenes), str(path))
    except UserError:
        raise
    except Exception as error:  # of any kind, from the library
        raise DatasetError(f"{path}: cannot be read as CZI: {one_line(error)}") from error


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
    micrometres = {
        each.get("Id"): 1e6 * float(each.findtext("Value", "0"))
        for each in metadata.iterfind(_LENGTHS)
    }
    names = tuple(each.get("Name", "") for each in metadata.iterfind(_CHANNELS))
    sizes = tuple(micrometres.get(axis, 0.0) for axis in "YX")
    return PixelArray(
        pixels=_Pixels(file, scene, corner, tuple(box), samples, where),
        letters="".join(box) + "YX" + "S" * (samples > 1),
        shape=(*box.values(), corner.h, corner.w, *[samples] * (samples > 1)),
        dtype=np.dtype(dtype),
        colours=samples,
        pixel_size=sizes if min(sizes) > 0 else None,
        series_count=scenes,
        channel_names=names if samples == 1 else (),
    )


@dataclass(frozen=True)
class _Pixels:
    """The pixels of a scene, read by slices: of its axes, rows and columns, and samples."""

    file: object
    scene: int | None
    corner: object  # x and y of the scene in the file
    axes: tuple[str, ...]
    samples: int
    where: str

    def __getitem__(self, slices: tuple[slice, ...]) -> np.ndarray:
        *outer, rows, columns = slices[: len(self.axes) + 2]
        roi = (
            *(self.corner.x + columns.start, self.corner.y + rows.start),
            *(columns.stop - columns.start, rows.stop - rows.start),
        )
        background = (1.0, 1.0, 1.0) if self.samples > 1 else (0.0, 0.0, 0.0)
        places = itertools.product(*(range(part.start, part.stop) for part in outer))
        try:
            windows = [
                self.file.read(
                    roi=roi,
                    plane=dict(zip(self.axes, place, strict=True)),
                    scene=self.scene,
                    background_pixel=background,
                )
                for place in places
            ]
        except Exception as error:  # of any kind, from corrupt bytes
            raise DatasetError(f"{self.where}: cannot be decoded: {one_line(error)}") from error
        stacked = np.stack(windows).reshape(*(p.stop - p.start for p in outer), *windows[0].shape)
        if self.samples == 1:
            return stacked[..., 0]
        return stacked[..., ::-1][..., slices[-1]]  # from blue, green, red
