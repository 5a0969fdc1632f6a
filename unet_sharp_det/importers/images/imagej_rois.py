"""ROIs of ImageJ and Fiji: a ``.zip`` of the ROI manager, or a single ``.roi``, per image."""

import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePath

from ...data.label_files import without_ending
from ...errors import DatasetError
from .outlines import paint
from .samples import Sample, beside_images, images_of, pair

_MOST_BYTES = 2**28  # of a ROI, as roifile takes it
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
        return any(map(_is_roi, archive.namelist()))


def _is_roi(name: str) -> bool:
    """Whether a member of an archive is a ROI: no folder, nor what the Finder of a Mac adds."""
    return name.endswith(".roi") and not PurePath(name).name.startswith("._")


def read(folder: Path) -> Iterator[Sample]:
    """Read a folder; ROIs that enclose no area are refused."""
    files = beside_images(folder, (".zip", ".roi"), _stem)
    return pair(images_of(folder), files, _read_objects)


def _stem(path: Path) -> str:
    return without_ending(path.stem, _ENDINGS)


def _read_objects(path: Path, shape: tuple[int, int]) -> list[dict]:
    from roifile import ROI_TYPE, ImagejRoi, roiread

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = filter(_is_roi, archive.namelist())
            rois = [ImagejRoi.frombytes(archive.open(each).read(_MOST_BYTES)) for each in names]
    else:
        rois = [roiread(path)]
    open_kinds = (ROI_TYPE.LINE, ROI_TYPE.FREELINE, ROI_TYPE.POLYLINE, ROI_TYPE.ANGLE)
    objects = []
    for roi in rois:
        where = f"{path}: the ROI '{roi.name}'"
        if roi.roitype in (*open_kinds, ROI_TYPE.POINT):
            raise DatasetError(f"{where}: is a {roi.roitype.name}, which has no area. Delete it.")
        outline = paint(roi.coordinates(multi=True), shape, where)
        objects.append({"category": "object", "segmentation": outline})
    return objects
