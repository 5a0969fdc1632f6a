"""Outlines for QuPath: a GeoJSON feature collection of detections."""

import json
from collections.abc import Mapping
from pathlib import Path

import shapely

from ..masks.drawing import distinct_colors
from ..masks.instances import SparseInstances
from .context import OutputContext
from .outlines import iterate_outlines


def write_geojson(instances: SparseInstances, context: OutputContext, path: Path) -> None:
    """Write a detection per object, one at a time.

    Args:
        instances: object k has the id and name k + 1, and its score and area as measurements.
        context: of it the classes, which become QuPath's classifications, the pixel size, and the
            plane.
        path: of the file.
    """
    colors = distinct_colors(len(context.class_names))
    classes = [
        {"name": name, "color": color}
        for name, color in zip(context.class_names, colors, strict=True)
    ]
    pixel_area = None
    if context.pixel_size is not None:
        pixel_area = context.pixel_size[0] * context.pixel_size[1]
    plane = _plane(context.source.place)
    objects = zip(
        iterate_outlines(instances),
        instances.classes.tolist(),
        instances.scores.tolist(),
        instances.areas.tolist(),
        strict=True,
    )
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, (outline, category, score, area) in enumerate(objects, 1):
            measurements = {"score": score, "area px^2": area}
            if pixel_area is not None:
                measurements["area um^2"] = area * pixel_area
            properties = {
                "objectType": "detection",
                "name": str(number),
                "classification": classes[category],
                "measurements": measurements,
            }
            file.write(
                f'{"," if number > 1 else ""}\n{{"type": "Feature", "id": {number}, "geometry": '
                f'{shapely.to_geojson(outline)[:-1]}{plane}}}, "properties": '
                f"{json.dumps(properties)}}}"
            )
        file.write("\n]}\n")


def _plane(place: Mapping[str, int | None]) -> str:
    """Return QuPath's further member of a geometry, unless it is on the first plane.

    Pages of a TIFF that say nothing of themselves are times to Bio-Formats.
    """
    z, t = (place.get(axis) or 0 for axis in ("z", "t"))
    t = t or place.get("page") or 0
    return f', "plane": {{"c": -1, "z": {z}, "t": {t}}}' if z or t else ""
