"""OME-Zarr for tests: 0.5 by yaozarrs, 0.4 by zarr, with metadata that yaozarrs has checked."""

import pytest

zarr = pytest.importorskip("zarr")  # which needs Python 3.11

from yaozarrs import v04, v05  # noqa: E402
from yaozarrs.write.v05 import write_image  # noqa: E402

TYPES = {"t": "time", "c": "channel"}
WINDOW = {"min": 0, "max": 255, "start": 0, "end": 255}


def describe(version, axes, scale=None, unit="micrometer", labels=()):
    """Return the model of an image of two levels; ``scale`` is of the first one."""
    described = [{"name": name, "type": TYPES.get(name, "space")} for name in axes]
    described = [{**each, "unit": unit} if each["name"] in "yx" else each for each in described]
    datasets = []
    for level in range(2):
        sizes = zip(axes, scale or [1] * len(axes), strict=True)
        scales = [size * 2**level if name in "yx" else size for name, size in sizes]
        steps = [{"type": "scale", "scale": scales}]
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    content = {"multiscales": [{"axes": described, "datasets": datasets}]}
    if version is v04:
        content["multiscales"][0]["version"] = "0.4"
    else:
        content["version"] = "0.5"
    if labels:
        channels = [{"label": each, "color": "FFFFFF", "window": WINDOW} for each in labels]
        content["omero"] = {"channels": channels}
    return version.Image.model_validate(content)


def levels(array):
    return [array, array[..., ::2, ::2]]


def write_v05(path, array, axes="yx", chunks="auto", **described):
    return write_image(
        path, describe(v05, axes, **described), levels(array), writer="zarr", chunks=chunks
    )


def write_v04(path, array, axes="yx", chunks="auto", **described):
    """Write Zarr 2 with chunks in folders, as the specification asks for."""
    image = describe(v04, axes, **described)
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    group.attrs.update(image.model_dump(mode="json", exclude_none=True, by_alias=True))
    nested = {"name": "v2", "separator": "/"}
    for level, pixels in enumerate(levels(array)):
        group.create_array(str(level), data=pixels, chunks=chunks, chunk_key_encoding=nested)
    return path
