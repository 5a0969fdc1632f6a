"""The table of objects: a CSV file with a row of measurements per object.

The measurements are summed window by window: each pixel of the image is read once, and memory grows
with the number of objects and the size of a window, not with the size of the image or of an object.
"""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..images.source import ImageSource
from ..masks.instances import SparseInstances
from .write import OutputContext, windows

_SQUARE_WITHIN = 1e-3
_TILE = 1024
_HALO = 2  # pixels around a window on which its part of the perimeter depends

# Benkrid and Crookes: the length of outline that a border pixel stands for, by the sum of 1, 2
# per neighbour of its row or column, and 10 per diagonal one, that are border pixels as well.
_LENGTHS = np.zeros(50)
_LENGTHS[[5, 7, 15, 17, 25, 27]] = 1
_LENGTHS[[21, 33]] = np.sqrt(2)
_LENGTHS[[13, 23]] = (1 + np.sqrt(2)) / 2


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
    measured = _measure(instances, context)
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
        "eccentricity": np.sqrt(1 - _ratio(*axes.T) ** 2),
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
    source = context.source.with_all_channels()
    for index, channel in enumerate(source.channel_numbers):
        name = source.channel_names[channel] if source.channel_names else f"c{channel}"
        columns |= {
            f"intensity_mean_{name}": measured.mean[:, index],
            f"intensity_std_{name}": measured.std[:, index],
            f"intensity_min_{name}": measured.minimum[:, index],
            f"intensity_max_{name}": measured.maximum[:, index],
        }
    return columns


def _diameter(area: np.ndarray) -> np.ndarray:
    return np.sqrt(4 * area / np.pi)


def _ratio(major: np.ndarray, minor: np.ndarray) -> np.ndarray:
    return np.divide(minor, major, out=np.ones_like(minor), where=major > 0)


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


@dataclass(frozen=True)
class _Measurements:
    """What N objects are in an image of C channels."""

    area: np.ndarray  # int64 (N,), number of pixels
    centroid: np.ndarray  # (N, 2), x and y of the mean pixel
    covariance: np.ndarray  # (N, 3), of the pixels' coordinates: xx, xy, yy
    perimeter: np.ndarray  # (N,), as skimage.measure.perimeter
    mean: np.ndarray  # (N, C), of the values of the file, as are the others
    std: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray

    def axes(self, pixel_size: tuple[float, float] = (1, 1)) -> tuple[np.ndarray, np.ndarray]:
        """Return the axes of the ellipses that have the same second moments, and their angles.

        These are (N, 2), major and minor axis in the unit of ``pixel_size``, (y, x); and (N,),
        degrees from the x axis to the major one, counterclockwise as one sees it, 0 to < 180.
        """
        dy, dx = pixel_size
        xx, xy, yy = (self.covariance * (dx * dx, dx * dy, dy * dy)).T
        middle, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
        axes = 4 * np.sqrt(np.maximum([middle + spread, middle - spread], 0)).T
        angles = np.round(np.degrees(np.arctan2(-2 * xy, xx - yy) / 2), 6) % 180
        return axes, angles


def _measure(instances: SparseInstances, context: OutputContext) -> _Measurements:
    source = context.source.with_all_channels()
    count, channels = len(instances), source.channels
    area = np.zeros(count, np.int64)
    sums = np.zeros((count, 5))  # x, y, xx, xy, yy from the corner of the object's box
    perimeter = np.zeros(count)
    mean, squares = np.zeros((count, channels)), np.zeros((count, channels))
    minimum, maximum = np.full((count, channels), np.inf), np.full((count, channels), -np.inf)
    for part in _parts(instances, source):
        x, y = (part.position - instances.boxes[part.objects, :2][part.owner]).T
        n, new = part.size[:, None], part.size[:, None] + area[part.objects, None]
        moments = np.stack([x, y, x * x, x * y, y * y], axis=1)
        sums[part.objects] += part.sum(moments)
        perimeter[part.objects] += part.sum(part.length)
        # Means and squared deviations are merged as Chan et al. (1979) do, without cancellation.
        means = part.sum(part.values) / n
        deviations = part.sum((part.values - means[part.owner]) ** 2)
        shift = means - mean[part.objects]
        squares[part.objects] += deviations + shift**2 * n * area[part.objects, None] / new
        mean[part.objects] += shift * n / new
        for extreme, function in ((minimum, np.minimum), (maximum, np.maximum)):
            extremes = function.reduceat(part.values, part.starts)
            extreme[part.objects] = function(extreme[part.objects], extremes)
        area[part.objects] += part.size
    averages = sums / np.maximum(area, 1)[:, None]
    x, y, xx, xy, yy = averages.T
    return _Measurements(
        area=area,
        centroid=averages[:, :2] + instances.boxes[:, :2],
        covariance=np.stack([xx - x * x, xy - x * y, yy - y * y], axis=1),
        perimeter=perimeter,
        mean=mean,
        std=np.sqrt(squares / np.maximum(area, 1)[:, None]),
        minimum=minimum,
        maximum=maximum,
    )


@dataclass(frozen=True)
class _Part:
    """The P pixels of the K objects that a window has, sorted by object."""

    objects: np.ndarray  # (K,), numbers of objects from 0
    starts: np.ndarray  # (K,), first pixel of each
    size: np.ndarray  # (K,), number of pixels of each
    owner: np.ndarray  # (P,), index in ``objects``
    position: np.ndarray  # (P, 2), x and y in the image
    length: np.ndarray  # (P,), of outline
    values: np.ndarray  # float64 (P, C)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum (P, ...) over the pixels of each object: (K, ...)."""
        return np.add.reduceat(values, self.starts)


def _parts(instances: SparseInstances, source: ImageSource) -> Iterator[_Part]:
    for rows, columns in windows(instances.shape, _TILE, _TILE):
        labels = _paint_with_halo(instances, rows, columns)
        core = labels[_HALO:-_HALO, _HALO:-_HALO]
        y, x = np.nonzero(core)
        if not y.size:
            continue
        order = np.argsort(core[y, x], kind="stable")
        y, x = y[order], x[order]
        owners = core[y, x] - 1
        starts = np.flatnonzero(np.diff(owners, prepend=-1))
        size = np.diff(starts, append=len(owners))
        yield _Part(
            objects=owners[starts],
            starts=starts,
            size=size,
            owner=np.repeat(np.arange(len(starts)), size),
            position=np.stack([x + columns.start, y + rows.start], axis=1),
            length=_outline_lengths(labels)[y, x],
            values=source.window(rows, columns)[y, x].astype(np.float64),
        )


def _paint_with_halo(instances: SparseInstances, rows: slice, columns: slice) -> np.ndarray:
    """Paint a window and ``_HALO`` pixels around it; beyond the image is background."""
    clipped, missing = [], []
    for part, size in ((rows, instances.shape[0]), (columns, instances.shape[1])):
        start, stop = part.start - _HALO, part.stop + _HALO
        clipped.append(slice(max(0, start), min(size, stop)))
        missing.append((max(0, -start), max(0, stop - size)))
    return np.pad(instances.paint(*clipped), missing)


def _outline_lengths(labels: np.ndarray) -> np.ndarray:
    """Return (h, w): the outline that each pixel of a window with halo stands for."""
    center = labels[1:-1, 1:-1]
    inside = np.ones(center.shape, bool)
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        inside &= labels[dy : dy + center.shape[0], dx : dx + center.shape[1]] == center
    border = np.where(inside, 0, center)  # number of the object on its border pixels, else 0
    center = border[1:-1, 1:-1]
    code = np.ones(center.shape, np.int64)
    for dy in range(3):
        for dx in range(3):
            weight = {0: 0, 1: 2, 2: 10}[abs(dy - 1) + abs(dx - 1)]
            neighbour = border[dy : dy + center.shape[0], dx : dx + center.shape[1]]
            code += weight * (neighbour == center)
    return np.where(center > 0, _LENGTHS[code], 0)
