"""ROIs of ImageJ and Fiji: a ``.zip`` of the ROI manager, or a single ``.roi``, per image."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...data.label_files import without_ending
from ...errors import DatasetError
from .outlines import paint
from .samples import Sample, beside_images, images_of, pair

_ENDINGS = ("_rois", "_RoiSet", "-RoiSet", "_roi")


def find(folder: Path) -> str | None:
    """Return why a folder is of this format; None: it is not."""
    files = beside_images(folder, (".zip", ".roi"), _stem)
    found = next(filter(_holds_rois, files.values()), None)
    return f"{found.name} of ImageJ" if found else None


def _holds_rois(path: Path) -> bool:
    """Whether a file is no archive of something else, such as a data set's download."""
    if not zipfile.is_zipfile(path):
        return path.suffix.lower() == ".roi"
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".roi") for name in archive.namelist())


def read(folder: Path) -> Iterator[Sample]:
    """Read a folder; ROIs that enclose no area are refused."""
    files = beside_images(folder, (".zip", ".roi"), _stem)
    return pair(images_of(folder), files, _read_objects)


def _stem(path: Path) -> str:
    return without_ending(path.stem, _ENDINGS)


def _read_objects(path: Path, shape: tuple[int, int]) -> list[dict]:
    from roifile import ROI_TYPE, roiread

    rois = roiread(path)
    open_kinds = (ROI_TYPE.LINE, ROI_TYPE.FREELINE, ROI_TYPE.POLYLINE, ROI_TYPE.ANGLE)
    objects = []
    for roi in rois if isinstance(rois, list) else [rois]:
        where = f"{path}: the ROI '{roi.name}'"
        if roi.roitype in (*open_kinds, ROI_TYPE.POINT):
            raise DatasetError(f"{where}: is a {roi.roitype.name}, which has no area. Delete it.")
        rings = roi.coordinates(multi=True)
        rings = rings if isinstance(rings, list) else [np.asarray(rings)]
        objects.append({"category": "object", "segmentation": paint(rings, shape, where)})
    return objects
