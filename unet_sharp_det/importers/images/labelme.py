"""labelme: a ``.json`` per image, beside it, with polygons, rectangles and circles."""

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import DatasetError
from ...files import read_json
from .outlines import paint
from .samples import Sample, beside_images, images_of, pair

_CORNERS_OF_CIRCLE = 64


def find(folder: Path) -> str | None:
    """Return why a folder is of this format; None: it is not."""
    files = beside_images(folder, (".json",))
    first = next(iter(files.values()), None)
    content = read_json(first) if first else None
    return f"{first.name} has shapes" if isinstance(content, dict) and "shapes" in content else None


def read(folder: Path) -> Iterator[Sample]:
    """Read a folder. Shapes of one label and ``group_id`` are parts of one object."""
    return pair(images_of(folder), beside_images(folder, (".json",)), _read_objects)


def _read_objects(path: Path, shape: tuple[int, int]) -> list[dict]:
    content = read_json(path, dict, "Save it in labelme again.")
    said = (content.get("imageHeight", shape[0]), content.get("imageWidth", shape[1]))
    if said != shape:
        raise DatasetError(
            f"{path}: is of an image of (height, width) {said}, but its image has {shape}. Give "
            "the one that was annotated."
        )
    groups = defaultdict(list)
    for number, each in enumerate(content.get("shapes", [])):
        where = f"{path}: shape {number} (counted from 0)"
        group = each.get("group_id")
        key = (each.get("label"), number if group is None else f"group {group}")
        groups[key].append((_ring(each, where), where))
    return [
        {
            "category": str(label),
            "segmentation": paint([ring for ring, _ in rings], shape, rings[0][1]),
        }
        for (label, _), rings in groups.items()
    ]


def _ring(shape: dict, where: str) -> np.ndarray:
    kind = shape.get("shape_type", "polygon")
    try:
        points = np.asarray(shape.get("points"), float).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{where}: has no points (x, y). Draw it again.") from error
    if kind == "polygon":
        return points
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    if kind == "circle" and len(points) == 2:  # The centre, and a point of the edge.
        angles = np.linspace(0, 2 * math.pi, _CORNERS_OF_CIRCLE, endpoint=False)
        radius = np.hypot(*(points[1] - points[0]))
        return points[0] + radius * np.column_stack([np.cos(angles), np.sin(angles)])
    raise DatasetError(f"{where}: is a {kind}, which has no area. Draw a polygon.")
