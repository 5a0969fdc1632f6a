"""The table of objects: a CSV file with a row of measurements per object."""

import csv
import math
from pathlib import Path

import numpy as np

from ..masks.instances import SparseInstances
from .context import OutputContext
from .measurements import measure_objects

_SQUARE_WITHIN = 1e-3


def write_object_table(instances: SparseInstances, context: OutputContext, path: Path) -> None:
    """Write the table; its header depends on the channels and on whether the pixel size is known.

    Args:
        instances: object k is the row with the id k + 1.
        context: the image, of which the intensities are measured in the values of the file.
        path: of the file.
    """
    columns = object_columns(instances, context)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*map(_format, columns.values()), strict=True))


def object_columns(instances: SparseInstances, context: OutputContext) -> dict[str, np.ndarray]:
    """Return the columns of the table by name, each (N,); docs/OUTPUTS.md defines them.

    Args:
        instances: N objects without overlaps.
        context: the image.
    """
    measured = measure_objects(instances, context)
    x0, y0, x1, y1 = instances.boxes.T
    height, width = instances.shape
    (major, minor), _ = map(np.transpose, measured.axes())
    axes, angles = measured.axes(context.pixel_size or (1, 1))
    names = np.array(context.class_names, object)
    columns = {
        "id": np.arange(1, len(instances) + 1),
        "class": names[instances.classes],
        "score": instances.scores,
        "centroid_x_px": measured.centroid[:, 0],
        "centroid_y_px": measured.centroid[:, 1],
        "bbox_left_px": x0,
        "bbox_top_px": y0,
        "bbox_width_px": x1 - x0,
        "bbox_height_px": y1 - y0,
        "touches_border": ((x0 == 0) | (y0 == 0) | (x1 == width) | (y1 == height)).astype(int),
        "area_px": measured.area,
        "perimeter_px": measured.perimeter,
        "major_axis_px": major,
        "minor_axis_px": minor,
        "equivalent_diameter_px": _diameter(measured.area),
        "eccentricity": _eccentricity(axes),
        "orientation_deg": angles,
        "solidity": measured.area / _convex_areas(instances),
    }
    if context.pixel_size is not None:
        dy, dx = context.pixel_size
        area = measured.area * dy * dx
        side = math.sqrt(dy * dx) if math.isclose(dy, dx, rel_tol=_SQUARE_WITHIN) else math.nan
        columns |= {
            "centroid_x_um": measured.centroid[:, 0] * dx,
            "centroid_y_um": measured.centroid[:, 1] * dy,
            "area_um2": area,
            "perimeter_um": measured.perimeter * side,
            "major_axis_um": axes[:, 0],
            "minor_axis_um": axes[:, 1],
            "equivalent_diameter_um": _diameter(area),
        }
    for index, channel in enumerate(context.source.channel_numbers):
        columns |= {
            f"intensity_mean_c{channel}": measured.mean[:, index],
            f"intensity_std_c{channel}": measured.std[:, index],
            f"intensity_min_c{channel}": measured.minimum[:, index],
            f"intensity_max_c{channel}": measured.maximum[:, index],
        }
    return columns


def _diameter(area: np.ndarray) -> np.ndarray:
    return np.sqrt(4 * area / np.pi)


def _eccentricity(axes: np.ndarray) -> np.ndarray:
    major, minor = axes.T
    ratio = np.divide(minor, major, out=np.ones_like(minor), where=major > 0)
    return np.sqrt(1 - ratio**2)


def _convex_areas(instances: SparseInstances) -> np.ndarray:
    """Return (N,), the number of pixels of each object's convex hull."""
    from skimage.morphology import convex_hull_image

    hulls = (np.count_nonzero(convex_hull_image(mask)) for mask in instances.masks)
    return np.fromiter(hulls, np.int64, len(instances))


def _format(column: np.ndarray) -> list[str]:
    """Return the cells of a column: floats with 9 digits, what is not known empty."""
    if column.dtype.kind != "f":
        return column.tolist()
    return ["" if math.isnan(value) else f"{value:.9g}" for value in column.tolist()]
