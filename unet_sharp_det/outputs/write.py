"""The kinds of files that hold the objects of an image, and how they are written.

Object k of :class:`SparseInstances` is number k + 1 in every file.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import UserError, look_up_option, missing_package
from ..files import atomic_path

if TYPE_CHECKING:
    from ..images.source import ImageSource
    from ..masks.instances import SparseInstances


class Output(NamedTuple):
    """A kind of file."""

    ending: str  # what follows the stem of the image's name
    module: str  # of this package, imported when needed, with write_NAME(instances, context, path)
    meaning: str  # one line for help texts
    needs: tuple[str, str] = ()  # a package that not every installation has, and its extra
    is_folder: bool = False

    @property
    def is_available(self) -> bool:
        """Whether what it is written by is installed."""
        return not self.needs or importlib.util.find_spec(self.needs[0]) is not None


OUTPUTS: dict[str, Output] = {
    "labels": Output("_labels.tif", "label_map", "label map: each pixel's object number"),
    "coco": Output("_coco.json", "coco", "COCO data set of one image with scores"),
    "overlay": Output("_overlay.png", "overlay", "the image with outlines, to look at"),
    "table": Output("_objects.csv", "object_table", "a row of measurements per object"),
    "parquet": Output(
        *("_objects.parquet", "object_table", "the table as Parquet", ("pyarrow", "parquet"))
    ),
    "rois": Output("_rois.zip", "outlines", "ROIs of ImageJ and Fiji"),
    "geojson": Output("_outlines.geojson", "outlines", "detections of QuPath"),
    "zarr": Output(
        *("_labels.zarr", "label_image", "label map as a pyramid of OME-Zarr", ("zarr", "zarr")),
        is_folder=True,
    ),
}
DEFAULT_OUTPUTS = ("labels", "overlay", "table")


@dataclass(frozen=True)
class OutputContext:
    """An image, and what its objects are."""

    source: ImageSource
    class_names: tuple[str, ...]
    pixel_size: tuple[float, float] | None = None  # (y, x) in micrometres


def windows(shape: tuple[int, int], height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Part an image (height, width) into (rows, columns) of at most this size, row by row."""
    for top in range(0, shape[0], height):
        rows = slice(top, min(top + height, shape[0]))
        for left in range(0, shape[1], width):
            yield rows, slice(left, min(left + width, shape[1]))


def output_paths(stem: Path, names: Sequence[str]) -> list[Path]:
    """Return where :func:`write_outputs` writes each of ``names``; raises as it does."""
    names = [look_up_option(name, OUTPUTS, "Output") for name in names]
    for name in names:
        if not OUTPUTS[name].is_available:
            package, extra = OUTPUTS[name].needs
            raise missing_package(f"Output: '{name}'", f"the package {package}", extra)
    return [Path(stem).with_name(Path(stem).name + OUTPUTS[name].ending) for name in names]


def write_outputs(
    instances: SparseInstances, context: OutputContext, stem: Path, names: Sequence[str]
) -> list[Path]:
    """Write the objects of an image to files, each of which appears whole or not at all.

    Args:
        instances: of this image, without overlaps.
        context: the image.
        stem: path without endings, e.g. ``results/a`` for ``results/a_labels.tif``.
        names: keys of ``OUTPUTS``.

    Returns:
        the files, in the order of ``names``.

    Raises:
        UserError: a name is unknown, its package is missing, the instances are not of its classes,
            or a file cannot be written.
    """
    paths = output_paths(stem, names)
    if len(instances) and instances.classes.max() >= len(context.class_names):
        raise UserError(
            f"{context.source.name}: has an object of class {instances.classes.max()} (from 0), "
            f"but the names of classes are {', '.join(context.class_names)}."
        )
    for name, path in zip(names, paths, strict=True):
        module = importlib.import_module(f".{OUTPUTS[name].module}", __package__)
        with atomic_path(path, is_folder=OUTPUTS[name].is_folder) as temporary:
            getattr(module, f"write_{name}")(instances, context, temporary)
    return paths
