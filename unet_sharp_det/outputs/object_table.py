"""The table of objects: a CSV file with a row of measurements per object.

The image is read a window at a time: memory grows with the objects, not with the image.
"""

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..images.source import ImageSource
from ..masks.instances import SparseInstances
from .write import OutputContext

_SQUARE_WITHIN = 1e-3
_TILE = 1024
_OF_INTENSITIES = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max}


def write_table(instances: SparseInstances, context: OutputContext, path: Path) -> None:
    """Write the table of :func:`object_columns`."""
    columns = object_columns(instances, context)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*map(_format, columns.values()), strict=True))


def write_parquet(instances: SparseInstances, context: OutputContext, path: Path) -> None:
    """Write the table of :func:`object_columns`; what is not known is NaN."""
    import pyarrow
    from pyarrow import parquet

    columns = object_columns(instances, context)
    columns["class"] = columns["class"].astype(str)  # which names the type where there are none
    with open(path, "wb") as file:  # pyarrow takes no names with bytes that are no text
        parquet.write_table(pyarrow.table(columns), file)


def object_columns(instances: SparseInstances, context: OutputContext) -> dict[str, np.ndarray]:
    """Return the columns of the table by name, each (N,); docs/OUTPUTS.md defines them.

    Which there are depends on the channels, and on whether the pixel size is known.

    Args:
        instances: N objects without overlaps.
        context: the image.
    """
    source = context.source.with_all_channels()
    measured = _measure(instances, source)
    x0, y0, x1, y1 = instances.boxes.T
    height, width = instances.shape
    area, centroid, perimeter = (measured[name] for name in ("area", "centroid", "perimeter"))
    (major, minor), _ = map(np.transpose, _axes(measured["covariance"]))
    axes, angles = _axes(measured["covariance"], context.pixel_size or (1, 1))
    names = np.array(context.class_names, object)
    columns = {
        "id": np.arange(1, len(instances) + 1),
        "class": names[instances.classes],
        "score": instances.scores,
        "centroid_x_px": centroid[:, 0],
        "centroid_y_px": centroid[:, 1],
        "bbox_left_px": x0,
        "bbox_top_px": y0,
        "bbox_width_px": x1 - x0,
        "bbox_height_px": y1 - y0,
        "touches_border": ((x0 == 0) | (y0 == 0) | (x1 == width) | (y1 == height)).astype(int),
        "area_px": area,
        "perimeter_px": perimeter,
        "major_axis_px": major,
        "minor_axis_px": minor,
        "equivalent_diameter_px": _diameter(area),
        "eccentricity": np.sqrt(1 - _ratio(*axes.T) ** 2),
        "orientation_deg": angles,
        "solidity": area / measured["convex_area"],
    }
    if context.pixel_size is not None:
        dy, dx = context.pixel_size
        area_um2 = area * dy * dx
        side = math.sqrt(dy * dx) if math.isclose(dy, dx, rel_tol=_SQUARE_WITHIN) else math.nan
        columns |= {
            "centroid_x_um": centroid[:, 0] * dx,
            "centroid_y_um": centroid[:, 1] * dy,
            "area_um2": area_um2,
            "perimeter_um": perimeter * side,
            "major_axis_um": axes[:, 0],
            "minor_axis_um": axes[:, 1],
            "equivalent_diameter_um": _diameter(area_um2),
        }
    for index, channel in enumerate(source.channel_numbers):
        name = source.channel_names[channel] if source.channel_names else f"c{channel}"
        for what in _OF_INTENSITIES:
            columns[f"intensity_{what}_{name}"] = measured[what][:, index]
    return columns


def _diameter(area: np.ndarray) -> np.ndarray:
    return np.sqrt(4 * area / np.pi)


def _ratio(major: np.ndarray, minor: np.ndarray) -> np.ndarray:
    return np.divide(minor, major, out=np.ones_like(minor), where=major > 0)


def _format(column: np.ndarray) -> list[str]:
    """Return the cells of a column: floats with 9 digits, what is not known empty."""
    if column.dtype.kind != "f":
        return column.tolist()
    return ["" if math.isnan(value) else f"{value:.9g}" for value in column.tolist()]


def _axes(
    covariance: np.ndarray, pixel_size: tuple[float, float] = (1, 1)
) -> tuple[np.ndarray, np.ndarray]:
    """Return the axes of the ellipses that have the same second moments, and their angles.

    These are (N, 2), major and minor axis in the unit of ``pixel_size``, (y, x); and (N,),
    degrees from the x axis to the major one, counterclockwise as one sees it, 0 to < 180.
    """
    dy, dx = pixel_size
    xx, xy, yy = (covariance * (dx * dx, dx * dy, dy * dy)).T
    middle, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    axes = 4 * np.sqrt(np.maximum([middle + spread, middle - spread], 0)).T
    angles = np.round(np.degrees(np.arctan2(-2 * xy, xx - yy) / 2), 6) % 180
    return axes, angles


def _measure(instances: SparseInstances, source: ImageSource) -> np.ndarray:
    """Return (N,) of the fields below; those of intensities are of the values of the file."""
    from skimage.measure import perimeter
    from skimage.morphology import convex_hull_image

    per_channel = (float, (source.channels,))
    fields = [
        *(("area", int), ("perimeter", float), ("convex_area", int)),
        ("centroid", float, (2,)),  # x and y of the mean pixel
        ("covariance", float, (3,)),  # of the pixels' coordinates: xx, xy, yy
        *((what, *per_channel) for what in _OF_INTENSITIES),
    ]
    measured = np.zeros(len(instances), fields)
    for index, values in _values(instances, source):
        mask, corner = instances.masks[index], instances.boxes[index, :2]
        xy = np.stack(np.nonzero(mask)[::-1])
        (xx, cross), (_, yy) = np.cov(xy, bias=True)
        measured[index] = (
            *(len(values), perimeter(mask), np.count_nonzero(convex_hull_image(mask))),
            *(corner + xy.mean(axis=1), (xx, cross, yy)),
            *(function(values, axis=0) for function in _OF_INTENSITIES.values()),
        )
    return measured


def _values(instances: SparseInstances, source: ImageSource) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the index of each object and the values (P, C) of its pixels, float64.

    Objects that begin in the same tile of the image are read together.
    """
    tiles = instances.boxes[:, :2] // _TILE
    for tile in np.unique(tiles, axis=0):
        members = np.flatnonzero((tiles == tile).all(axis=1))
        left, top = instances.boxes[members, :2].min(axis=0)
        right, bottom = instances.boxes[members, 2:].max(axis=0)
        window = source.window(slice(top, bottom), slice(left, right))
        for index in members:
            x0, y0, x1, y1 = instances.boxes[index] - (left, top, left, top)
            yield index, window[y0:y1, x0:x1][instances.masks[index]].astype(np.float64)
