"""labelme: a ``.json`` per image, beside it, with polygons, rectangles, circles and masks."""

import base64
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ...data.label_files import check_size
from ...errors import DatasetError, library_errors
from ...files import read_json
from ...masks import encode_mask, union_mask
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
    """Read a folder. What has one label and ``group_id`` is one object."""
    return pair(images_of(folder), beside_images(folder, (".json",)), _read_objects)


def _read_objects(path: Path, shape: tuple[int, int]) -> list[dict]:
    content = read_json(path, dict, "Save it in labelme again.")
    said = (content.get("imageHeight", shape[0]), content.get("imageWidth", shape[1]))
    check_size(path, said, shape)
    groups = defaultdict(list)
    for number, each in enumerate(content.get("shapes", [])):
        where = f"{path}: shape {number} (counted from 0)"
        group = each.get("group_id")
        parts = groups[each.get("label"), number if group is None else f"group {group}"]
        if each.get("shape_type") == "mask":
            parts.append(_mask(each, shape, where))
        else:
            parts.append(paint([_ring(each, where)], shape, where))
    return [
        {"category": str(label), "segmentation": encode_mask(union_mask(parts, shape, path), shape)}
        for (label, _), parts in groups.items()
    ]


def _mask(shape: dict, image_shape: tuple[int, int], where: str) -> dict:
    """Return what labelme's AI draws: a PNG in base64, and the corners where it lies."""
    with library_errors(f"{where}: its mask is damaged, or out of the image", "Draw it again."):
        left, top = np.rint(shape["points"][0]).astype(int).tolist()
        data = np.frombuffer(base64.b64decode(shape["mask"]), np.uint8)
        return encode_mask(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) > 0, image_shape, top, left)


def _ring(shape: dict, where: str) -> np.ndarray:
    kind = shape.get("shape_type", "polygon")
    points = np.asarray(shape.get("points"), float).reshape(-1, 2)
    if kind in ("polygon", "oriented_rectangle"):
        return points
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    if kind == "circle" and len(points) == 2:  # The centre, and a point of the edge.
        angles = np.linspace(0, 2 * math.pi, _CORNERS_OF_CIRCLE, endpoint=False)
        radius = np.hypot(*(points[1] - points[0]))
        return points[0] + radius * np.column_stack([np.cos(angles), np.sin(angles)])
    raise DatasetError(f"{where}: is a {kind}, which has no area. Draw a polygon.")
