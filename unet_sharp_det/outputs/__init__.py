"""The files that hold the objects of an image, each written by a function in its own module.

Object k of :class:`SparseInstances` is number k + 1 in every file. What the files hold stands in
docs/OUTPUTS.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError, look_up_option
from ..files import atomic_path
from ..masks.instances import SparseInstances
from .coco import merge_coco, write_coco
from .context import OutputContext
from .geojson import write_geojson
from .label_map import write_label_map
from .object_table import write_object_table
from .overlay import write_overlay
from .rois import write_rois

__all__ = ["OUTPUTS", "Output", "OutputContext", "merge_coco", "output_paths", "write_outputs"]


@dataclass(frozen=True)
class Output:
    """A kind of file.

    Attributes:
        ending: what follows the stem of the image's name.
        write: a function (instances, context, path) that writes it; it need not be atomic.
        meaning: one line for help texts.
    """

    ending: str
    write: Callable[[SparseInstances, OutputContext, Path], None]
    meaning: str


OUTPUTS: dict[str, Output] = {
    "labels": Output("_labels.tif", write_label_map, "label map: each pixel's object number"),
    "coco": Output("_coco.json", write_coco, "COCO data set of one image with scores"),
    "overlay": Output("_overlay.png", write_overlay, "the image with outlines, to look at"),
    "table": Output("_objects.csv", write_object_table, "a row of measurements per object"),
    "rois": Output("_rois.zip", write_rois, "ROIs of ImageJ and Fiji"),
    "geojson": Output("_outlines.geojson", write_geojson, "detections of QuPath"),
}


def output_paths(stem: Path, names: Sequence[str]) -> list[Path]:
    """Return where :func:`write_outputs` writes each of ``names``.

    Args:
        stem: path of the outputs without their endings.
        names: keys of ``OUTPUTS``.

    Raises:
        UserError: a name is unknown, or given twice.
    """
    names = [look_up_option(name, OUTPUTS, "Output") for name in names]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"Output: '{name}' is given {names.count(name)} times, give it once.")
    return [Path(stem).with_name(Path(stem).name + OUTPUTS[name].ending) for name in names]


def write_outputs(
    instances: SparseInstances, context: OutputContext, stem: Path, names: Sequence[str]
) -> list[Path]:
    """Write the objects of an image to files, each of which appears whole or not at all.

    Args:
        instances: without overlaps.
        context: the image.
        stem: path of the outputs without their endings, e.g. ``results/a`` for
            ``results/a_labels.tif``.
        names: keys of ``OUTPUTS``.

    Returns:
        list[Path]: the files, in the order of ``names``.

    Raises:
        UserError: a name is unknown or given twice, the instances are not of the image's size or
            of its classes, or a file cannot be written.
    """
    paths = output_paths(stem, names)
    if tuple(instances.shape) != tuple(context.source.shape):
        raise UserError(
            f"{context.source.name}: is of (height, width) {tuple(context.source.shape)}, but the "
            f"objects are of an image of {tuple(instances.shape)}."
        )
    if len(instances) and instances.classes.max() >= len(context.class_names):
        raise UserError(
            f"{context.source.name}: has an object of class {instances.classes.max()} (from 0), "
            f"but the names of classes are {', '.join(context.class_names)}."
        )
    for name, path in zip(names, paths, strict=True):
        with atomic_path(path) as temporary:
            OUTPUTS[name].write(instances, context, temporary)
    return paths
