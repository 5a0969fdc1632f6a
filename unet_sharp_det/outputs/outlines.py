"""Outlines of objects along the borders of their pixels, and the files that hold them.

GeoJSON is for QuPath, a zip archive of ROIs for ImageJ and Fiji.
"""

import json
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import shapely

from ..masks.drawing import distinct_colors
from ..masks.instances import SparseInstances
from .write import OutputContext

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time of zip archives: the same input, the same bytes
_LARGEST_SHORT = 60_535  # ImageJ takes larger 16-bit coordinates for negative ones
_MOVE, _LINE, _CLOSE = 0, 1, 4  # Java's PathIterator


def trace_outline(mask: np.ndarray, left: int = 0, top: int = 0) -> shapely.Geometry:
    """Return the outline of a mask, in whole numbers.

    Pixel (y, x) covers the square from (x, y) to (x + 1, y + 1), so that the area of the outline
    is the number of pixels. Pixels that touch at a corner only are not connected.

    Args:
        mask: bool (h, w) with at least one pixel.
        left, top: the coordinates of its first pixel.

    Returns:
        a Polygon, or a MultiPolygon of an object in several parts; valid, with corners only, its
        outer rings clockwise and the rings of holes counterclockwise where y points up.
    """
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    stops = np.nonzero(steps == -1)[1]
    y = rows + top
    runs = shapely.union_all(shapely.box(starts + left, y, stops + left, y + 1))
    return shapely.normalize(shapely.simplify(runs, 0))


def iterate_outlines(instances: SparseInstances) -> Iterator[shapely.Geometry]:
    """Yield the outline of each object in the coordinates of the image."""
    for mask, (left, top) in zip(instances.masks, instances.boxes[:, :2].tolist(), strict=True):
        yield trace_outline(mask, left, top)


def rings_of(outline: shapely.Geometry) -> list[np.ndarray]:
    """Return int64 (K, 2), x and y of the corners, of each ring; the first is not repeated.

    Each polygon's outer ring is followed by those of its holes.
    """
    rings = shapely.get_rings(shapely.get_parts(outline))
    return [shapely.get_coordinates(ring)[:-1].astype(np.int64) for ring in rings]


def write_geojson(instances: SparseInstances, context: OutputContext, path: Path) -> None:
    """Write a detection per object, one at a time."""
    write_features(path, geojson_features(instances, context, range(1, len(instances) + 1)))


def write_features(path: Path, features: Iterable[str]) -> None:
    """Write GeoJSON features, each as text, as a collection."""
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for index, feature in enumerate(features):
            file.write(f"{',' if index else ''}\n{feature}")
        file.write("\n]}\n")


def geojson_features(
    instances: SparseInstances, context: OutputContext, numbers: Iterable[int]
) -> Iterator[str]:
    """Yield the detection of each object, which has one of ``numbers``, as GeoJSON."""
    colors = distinct_colors(len(context.class_names))
    classes = [
        {"name": name, "color": color}
        for name, color in zip(context.class_names, colors, strict=True)
    ]
    plane = geojson_plane(context.source.place)
    objects = zip(
        numbers,
        iterate_outlines(instances),
        instances.classes.tolist(),
        instances.scores.tolist(),
        instances.areas.tolist(),
        strict=True,
    )
    for number, outline, category, score, area in objects:
        measurements = {"score": score, "area px^2": area}
        if context.pixel_size is not None:
            measurements["area um^2"] = area * math.prod(context.pixel_size)
        yield geojson_feature(number, outline, classes[category], measurements, plane)


def geojson_feature(
    number: int, outline: shapely.Geometry, category: dict, measurements: dict, plane: str
) -> str:
    """Return a detection; ``category`` has its name, ``plane`` is of :func:`geojson_plane`."""
    properties = {
        "objectType": "detection",
        "name": str(number),
        "classification": category,
        "measurements": measurements,
    }
    return (
        f'{{"type": "Feature", "id": {number}, "geometry": '
        f'{shapely.to_geojson(outline)[:-1]}{plane}}}, "properties": '
        f"{json.dumps(properties)}}}"
    )


def geojson_plane(place: Mapping[str, int | None]) -> str:
    """Return QuPath's further member of a geometry, unless it is on the first plane.

    Pages of a TIFF that say nothing of themselves are times to Bio-Formats.
    """
    z, t = (place.get(axis) or 0 for axis in ("z", "t"))
    t = t or place.get("page") or 0
    return f', "plane": {{"c": -1, "z": {z}, "t": {t}}}' if z or t else ""


def write_rois(instances: SparseInstances, context: OutputContext, path: Path) -> None:
    """Write a ROI per object, named by its number and score, e.g. ``0017_score_0.93``."""
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
    from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

    rings = rings_of(outline)
    if len(rings) == 1:
        (ring,) = rings
        roi = ImagejRoi(roitype=ROI_TYPE.TRACED, n_coordinates=len(ring))
        roi.integer_coordinates = (ring - ring.min(axis=0)).astype(np.int32)
        if ring.max() > _LARGEST_SHORT:
            roi.options = ROI_OPTIONS.SUB_PIXEL_RESOLUTION
            roi.subpixel_coordinates = ring.astype(np.float32)
    else:
        path = _java_path(rings)
        roi = ImagejRoi(roitype=ROI_TYPE.RECT, shape_roi_size=len(path), multi_coordinates=path)
    roi.left, roi.top, roi.right, roi.bottom = map(int, outline.bounds)
    roi.name = name
    for attribute, position in positions.items():
        setattr(roi, attribute, position)
    return roi.tobytes()


def _java_path(rings: list[np.ndarray]) -> np.ndarray:
    path = []
    for ring in rings:
        steps = np.full(len(ring), _LINE)
        steps[0] = _MOVE
        path += [np.column_stack([steps, ring]).ravel(), [_CLOSE]]
    return np.concatenate(path).astype(np.float32)
