"""Our files as layers, layers as our files, and a sample image."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas  # which comes with napari
import shapely
import shapely.geometry

from .. import model_zoo
from ..errors import UserError
from ..files import atomic_path, read_json
from ..images.decoding import read_image
from ..images.source import from_array, open_image
from ..masks.instances import SparseInstances
from ..outputs import OUTPUTS, OutputContext
from ..outputs.label_map import write_label_stack
from ..outputs.outlines import (
    geojson_feature,
    geojson_features,
    geojson_plane,
    rings_of,
    write_features,
)
from .layers import pixel_size

_EVERYTHING = slice(None), slice(None)
_STACK = "tz"  # the axes that our files know beside rows and columns
LayerData = tuple[object, dict, str]


def sample() -> list[LayerData]:
    """Return the image of nuclei that comes with the package."""
    return [(read_image(model_zoo.SAMPLE, "L")[:, :, 0], {"name": "nuclei"}, "image")]


def label_map_reader(path) -> Callable | None:
    """Return what reads a label map, or None if the file is no TIFF of one channel of integers."""
    if not isinstance(path, str):
        return None  # several files as a stack
    try:
        planes = open_image(path)
    except UserError:
        return None
    is_map = planes[0].total_channels == 1 and planes[0].dtype.kind in "ui"
    return read_label_map if is_map else None


def read_label_map(path: str) -> list[LayerData]:
    """Read a label map with its pixel size, and the table beside it as features."""
    planes = open_image(path)
    stack = np.stack([plane.window(*_EVERYTHING)[:, :, 0] for plane in planes])
    sizes = [last + 1 for last in planes[-1].place.values()]
    labels = stack.reshape(*sizes, *planes[0].shape)
    about = {"name": Path(path).stem}
    if planes[0].pixel_size is not None:
        about["scale"] = [1.0] * len(sizes) + list(planes[0].pixel_size)
        about["units"] = ["pixel"] * len(sizes) + ["micrometer"] * 2
    stem, is_ours, _ = path.rpartition(OUTPUTS["labels"].ending)
    table = Path(stem + OUTPUTS["table"].ending)
    if is_ours and table.is_file():
        options = {"dtype": {"class": str}, "keep_default_na": False, "na_values": [""]}
        columns = pandas.read_csv(table, **options)
        about["features"] = columns.rename(columns={"id": "index"})  # napari's name of the number
    return [(labels, about, "labels")]


def outlines_reader(path) -> Callable | None:
    """Return what reads outlines, or None if the file has other than QuPath's objects."""
    if not isinstance(path, str):
        return None
    try:
        features = read_json(path, dict)["features"]
        is_ours = all("objectType" in each["properties"] for each in features)
    except (UserError, KeyError, TypeError):
        return None
    return read_outlines if is_ours else None


def read_outlines(path: str) -> list[LayerData]:
    """Read outlines as polygons, one per part of an object, with the object's features.

    They have the axes t and z if any object is beyond the first plane of these.
    """
    features = read_json(path, dict)["features"]
    planes = [each["geometry"].get("plane", {}) for each in features]
    axes = [axis for axis in _STACK if any(plane.get(axis) for plane in planes)]
    shapes, rows = [], []
    for feature, plane in zip(features, planes, strict=True):
        properties = feature["properties"]
        row = {
            "index": int(properties.get("name") or 0),
            "class": properties.get("classification", {}).get("name", ""),
            **properties.get("measurements", {}),
        }
        for part in shapely.get_parts(shapely.geometry.shape(feature["geometry"])):
            corners = _joined_rings(part)[:, ::-1] - 0.5  # centres of pixels are whole numbers here
            place = np.tile([plane.get(axis, 0) for axis in axes], (len(corners), 1))
            shapes.append(np.hstack([place, corners]))
            rows.append(row)
    table = pandas.DataFrame(rows)
    about = {
        "name": Path(path).stem,
        "shape_type": "polygon",
        "features": table,
        # Of what is drawn by hand; napari would take those of the last row.
        "feature_defaults": dict.fromkeys(table, math.nan) | {"index": 0, "class": ""},
        "face_color": "transparent",
        "edge_color": "yellow",
    }
    return [(shapes, {**about, "ndim": 2 + len(axes)}, "shapes")]


def _joined_rings(polygon: shapely.Polygon) -> np.ndarray:
    """Return (K, 2), x and y: the outer ring and from its first corner to each hole and back."""
    outer, *holes = rings_of(polygon)
    return np.concatenate([outer, *([*outer[:1], *hole, hole[0], outer[0]] for hole in holes)])


def write_label_map(path: str, labels, attributes: dict) -> list[str]:
    """Write a layer of labels as a label map, a stack as pages; numbers stay as they are."""
    axes, labels = _stack_of(labels, attributes)
    largest = max(int(page.max(initial=0)) for _, page in _pages(labels, axes))
    with atomic_path(path) as temporary:
        write_label_stack(
            (page for _, page in _pages(labels, axes)),
            labels.shape,
            temporary,
            largest=largest,
            pixel_size=pixel_size(attributes["scale"], attributes["units"]),
        )
    return [path]


def write_outlines(path: str, labels, attributes: dict) -> list[str]:
    """Write the outlines of a layer of labels, with the class and the score of its features.

    An object without them has the class ``object`` and the score 1.
    """
    axes, labels = _stack_of(labels, attributes)
    features = dict(attributes["features"])
    numbers = list(features.get("index", ()))
    scores = dict(zip(numbers, features.get("score", ()), strict=False))
    classes = dict(zip(numbers, features.get("class", ()), strict=False))
    names = tuple(dict.fromkeys([*classes.values(), "object"]))
    size = pixel_size(attributes["scale"], attributes["units"])

    def detections() -> Iterator[str]:
        for place, page in _pages(labels, axes):
            found = np.unique(page[page > 0]).tolist()
            objects = replace(
                SparseInstances.from_label_map(page, [float(scores.get(n, 1)) for n in found]),
                classes=np.array([names.index(classes.get(n, "object")) for n in found], int),
            )
            source = replace(from_array(page), place=place)
            yield from geojson_features(objects, OutputContext(source, names, size), found)

    with atomic_path(path) as temporary:
        write_features(temporary, detections())
    return [path]


def write_shapes(path: str, shapes, attributes: dict) -> list[str]:
    """Write polygons, rectangles and ellipses as outlines, with the numbers in their features.

    Each is an object: of class ``object`` and score 1 where the features have none, and with a new
    number where they have none or that of an earlier one.

    Raises:
        UserError: there are lines, or axes other than time and depth.
    """
    size = pixel_size(attributes["scale"], attributes["units"])
    rows = attributes["features"].to_dict("records") or [{}] * len(shapes)
    own = pandas.Series([row.get("index") or 0 for row in rows]).fillna(0).astype(int)
    new = itertools.count(own.max() + 1)
    numbers = [number or next(new) for number in own.where(~own.duplicated(), 0)]

    def detections() -> Iterator[str]:
        kinds = attributes["shape_type"]
        for corners, kind, row, number in zip(shapes, kinds, rows, numbers, strict=True):
            place, outline = _place_and_outline(corners, kind, attributes["name"])
            known = {name: value for name, value in row.items() if value == value}  # no NaN
            known.pop("index", None)
            category = {"name": known.pop("class", None) or "object"}
            measurements = {"score": 1.0, **known, "area px^2": outline.area}
            if size is not None:
                measurements["area um^2"] = outline.area * math.prod(size)
            yield geojson_feature(number, outline, category, measurements, geojson_plane(place))

    with atomic_path(path) as temporary:
        write_features(temporary, detections())
    return [path]


def _place_and_outline(corners: np.ndarray, kind: str, name: str) -> tuple[dict, shapely.Geometry]:
    """Return the plane of a shape, by axis, and its outline, a pixel's corner at whole numbers."""
    stacked = corners.shape[1] - 2
    if kind not in ("polygon", "rectangle", "ellipse") or stacked > len(_STACK):
        raise UserError(
            f"{name}: a {kind} of {corners.shape[1]} coordinates is no outline in a plane. "
            "Remove it, and save again."
        )
    place = dict(zip(_STACK[len(_STACK) - stacked :], np.rint(corners[0, :stacked]), strict=True))
    yx = corners[:, -2:]
    if kind == "ellipse":  # its corners are those of the rectangle around it
        angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)[:, None]
        yx = (
            yx.mean(axis=0)
            + np.cos(angles) * (yx[1] - yx[0]) / 2
            + np.sin(angles) * (yx[3] - yx[0]) / 2
        )
    outline = shapely.Polygon(yx[:, ::-1] + 0.5).buffer(0)
    return {axis: int(index) for axis, index in place.items()}, outline


def _stack_of(labels, attributes: dict) -> tuple[str, object]:
    """Return labels without axes of one place, and the letters of those before Y and X."""
    labels = labels[0] if attributes.get("multiscale") else labels
    sizes = [size for size in labels.shape[:-2] if size > 1]
    if len(sizes) > len(_STACK):
        raise UserError(
            f"{attributes['name']}: has {len(sizes)} axes beside rows and columns, but only time "
            "and depth can be written. Save a part of it."
        )
    return _STACK[len(_STACK) - len(sizes) :], labels.reshape(*sizes, *labels.shape[-2:])


def _pages(labels, axes: str) -> Iterator[tuple[dict[str, int], np.ndarray]]:
    """Yield the place, by axis, and the label map of each plane."""
    for index in np.ndindex(labels.shape[:-2]):
        yield dict(zip(axes, index, strict=True)), np.asarray(labels[index])
