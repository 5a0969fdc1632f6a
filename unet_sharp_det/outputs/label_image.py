"""Label images of OME-Zarr 0.5: label maps as pyramids, which viewers open at any size."""

from itertools import pairwise
from pathlib import Path

from ..masks.instances import SparseInstances
from .label_map import label_type
from .write import OutputContext, windows

#: The name of the label image.
NAME = "objects"
_VERSION = "0.5"
_CHUNK = 1024  # pixels of a side; the coarsest level has no larger one


def write_zarr(instances: SparseInstances, context: OutputContext, path: Path) -> None:
    """Write the group ``labels/objects`` chunk by chunk; chunks without objects take no file.

    A level has every second row and column of the finer one.
    """
    import zarr

    shapes = [tuple(instances.shape)]
    while max(shapes[-1]) > _CHUNK:
        shapes.append(tuple((side + 1) // 2 for side in shapes[-1]))
    root = zarr.open_group(path, mode="w-")
    root.create_group("labels", attributes={"ome": {"version": _VERSION, "labels": [NAME]}})
    about = {
        "version": _VERSION,
        "multiscales": [_multiscale(len(shapes), context.pixel_size)],
        "image-label": {},
    }
    group = root.create_group(f"labels/{NAME}", attributes={"ome": about})
    levels = [
        group.create_array(
            str(number),
            shape=shape,
            chunks=tuple(min(side, _CHUNK) for side in shape),
            dtype=label_type(len(instances)),
            dimension_names=("y", "x"),
        )
        for number, shape in enumerate(shapes)
    ]
    for part in windows(shapes[0], _CHUNK, _CHUNK):
        levels[0][part] = instances.paint(*part)
    for finer, coarser in pairwise(levels):
        for part in windows(coarser.shape, _CHUNK, _CHUNK):
            coarser[part] = finer[tuple(slice(2 * s.start, 2 * s.stop, 2) for s in part)]


def _multiscale(levels: int, pixel_size: tuple[float, float] | None) -> dict:
    unit = {"unit": "micrometer"} if pixel_size else {}
    datasets = [
        {
            "path": str(number),
            "coordinateTransformations": [
                {"type": "scale", "scale": [size * 2**number for size in pixel_size or (1.0, 1.0)]}
            ],
        }
        for number in range(levels)
    ]
    axes = [{"name": name, "type": "space", **unit} for name in "yx"]
    return {"name": NAME, "axes": axes, "datasets": datasets}
