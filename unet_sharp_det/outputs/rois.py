"""Outlines for ImageJ and Fiji: a zip archive of ROIs."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import shapely

from ..masks.instances import SparseInstances
from .context import OutputContext
from .outlines import iterate_outlines, rings_of

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time of zip archives: the same input, the same bytes
_LARGEST_SHORT = 60_535  # ImageJ takes larger 16-bit coordinates for negative ones
_MOVE, _LINE, _CLOSE = 0, 1, 4  # Java's PathIterator


def write_rois(instances: SparseInstances, context: OutputContext, path: Path) -> None:
    """Write a ROI per object, named by its number and score, e.g. ``0017_score_0.93``.

    Args:
        instances: the number of object k is k + 1, with zeros in front so that names sort.
        context: of it the plane, on which the ROIs are shown.
        path: of the file.
    """
    positions = _positions(context.source.place)
    digits = max(4, len(str(len(instances))))
    objects = zip(iterate_outlines(instances), instances.scores.tolist(), strict=True)
    with zipfile.ZipFile(path, "w") as archive:
        for number, (outline, score) in enumerate(objects, 1):
            name = f"{number:0{digits}d}_score_{score:.2f}"
            entry = zipfile.ZipInfo(f"{name}.roi", _EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, to_roi(outline, name, **positions), zipfile.ZIP_DEFLATED)


def _positions(place: Mapping[str, int | None]) -> dict[str, int]:
    """Return ImageJ's numbers of a plane, from 1: in a hyperstack, and of the only axis."""
    known = {axis: index + 1 for axis, index in place.items() if index is not None}
    positions = {f"{axis}_position": known[axis] for axis in "czt" if axis in known}
    if len(place) == len(known) == 1:
        (positions["position"],) = known.values()
    return positions


def to_roi(outline: shapely.Geometry, name: str, **positions: int) -> bytes:
    """Return an outline of whole coordinates as the bytes of a .roi file.

    One ring becomes a traced polygon; several parts or holes a composite, in which holes run
    against their outer ring. ImageJ's area of either is the area of the outline. ``positions`` are
    attributes of roifile's ROI.
    """
    rings = rings_of(outline)
    roi = _polygon(rings[0]) if len(rings) == 1 else _composite(rings)
    left, top, right, bottom = map(int, outline.bounds)
    roi.left, roi.top, roi.right, roi.bottom = left, top, right, bottom
    roi.name = name
    for attribute, position in positions.items():
        setattr(roi, attribute, position)
    return roi.tobytes()


def _polygon(ring: np.ndarray):
    from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

    roi = ImagejRoi(roitype=ROI_TYPE.TRACED, n_coordinates=len(ring))
    roi.integer_coordinates = (ring - ring.min(axis=0)).astype(np.int32)
    if ring.max() > _LARGEST_SHORT:
        roi.options = ROI_OPTIONS.SUB_PIXEL_RESOLUTION
        roi.subpixel_coordinates = ring.astype(np.float32)
    return roi


def _composite(rings: list[np.ndarray]):
    from roifile import ROI_TYPE, ImagejRoi

    path = []
    for ring in rings:
        steps = np.full(len(ring), _LINE)
        steps[0] = _MOVE
        path += [np.column_stack([steps, ring]).ravel(), [_CLOSE]]
    coordinates = np.concatenate(path).astype(np.float32)
    return ImagejRoi(
        roitype=ROI_TYPE.RECT, shape_roi_size=len(coordinates), multi_coordinates=coordinates
    )
