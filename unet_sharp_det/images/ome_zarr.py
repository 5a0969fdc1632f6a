"""OME-Zarr (OME-NGFF 0.4 and 0.5), in a folder or at an address of fsspec, read window by window.

An image is its finest level; the coarser ones of its pyramid are its reduced copies.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from ..addresses import address_of
from ..errors import DatasetError, library_errors, missing_package
from .pixel_size import in_micrometres
from .planes import PixelArray, check_series, meant_values

_GROUP_FILES = ("zarr.json", ".zgroup")
_METADATA = {*_GROUP_FILES, ".zattrs", ".zarray"}
_LETTERS = {"channel": "C", "time": "T"}  # of axes by their type, else it is their name


def is_zarr(path) -> bool:
    """Return whether a path is an address, or a folder that is a Zarr group."""
    inside = (os.path.join(path, name) for name in _GROUP_FILES)
    return address_of(path) is not None or any(map(os.path.isfile, inside))


def zarr_stamp(path) -> str:
    """Return what changes when a Zarr group does: the size of its metadata, and a time or digest.

    Of a folder the time is the newest of its metadata and of the folders above those of chunks: a
    chunk of three axes or more that is rewritten in its place is not noticed. Of an address only
    the metadata of the group itself count. What cannot be reached has ``""``.
    """
    address = address_of(path)
    try:
        return _stamp_of_address(address) if address else _stamp_of_folder(path)
    except Exception:  # of any kind, from the library of a store
        return ""


def _stamp_of_folder(path) -> str:
    size = newest = 0
    for folder, below, names in os.walk(path):
        seen = [folder, *(os.path.join(folder, name) for name in _METADATA.intersection(names))]
        if ".zarray" in names or os.path.basename(folder) == "c":  # the chunks may be many
            seen += [os.path.join(folder, name) for name in below]
            below.clear()
        for status in map(os.stat, seen):
            size, newest = size + status.st_size, max(newest, status.st_mtime_ns)
    return f"{size}-{newest}"


def _stamp_of_address(address: str) -> str:
    from fsspec.core import url_to_fs

    system, root = url_to_fs(address)
    files = [file for name in sorted(_METADATA) if system.exists(file := f"{root}/{name}")]
    digests = "-".join(map(str, map(system.checksum, files)))
    return f"{sum(map(system.size, files))}-{digests}" if files else ""


def open_zarr(path, series: int, max_pixels: int) -> dict[str, PixelArray]:
    """Open images without reading their pixels.

    Args:
        path: a folder or address of an image, plate, well, or conversion by bioformats2raw.
        series: which image of such a conversion, from 0.
        max_pixels: the largest chunk.

    Returns:
        the image, by ``""``; of a plate or well each field, by its path in it: ``"B/03/0"``.

    Raises:
        DatasetError: it cannot be reached, is no OME-Zarr of images, or corrupt.
        UserError: the package zarr is missing, or there is no such series.
    """
    try:
        import zarr
    except ModuleNotFoundError as error:
        raise missing_package(f"{path}: OME-Zarr", "the package zarr", "zarr") from error
    with library_errors(f"{path}: cannot be read as OME-Zarr"):
        group = zarr.open_group(address_of(path) or os.fspath(path), mode="r")
        found, count = _find_images(group, path, series)
        images = {name: _open_image(each, path, count, max_pixels) for name, each in found}
    if not images:
        raise DatasetError(f"{path}: is a plate or well without images. Name another one.")
    return images


def _metadata(group) -> dict:
    attributes = group.attrs.asdict()
    return attributes.get("ome", attributes)  # of version 0.5, and 0.4


def _find_images(group, path, number: int) -> tuple[Iterator, int]:
    """Return (name, group) of each image, and how many series there are."""
    ome, names = _metadata(group), [""]
    if "plate" in ome:
        wells = [each["path"] for each in ome["plate"]["wells"]]
        return (pair for well in wells for pair in _fields(group[well], f"{well}/")), 1
    if "well" in ome:
        return _fields(group, ""), 1
    if "bioformats2raw.layout" in ome:
        names = _metadata(group["OME"]).get("series") if "OME" in group else None
        names = names or [*itertools.takewhile(group.__contains__, map(str, itertools.count()))]
    elif "multiscales" not in ome:
        raise DatasetError(
            f"{path}: is Zarr, but no image of OME-Zarr. Convert it, e.g. by ome-zarr or ngff-zarr."
        )
    check_series(path, number, len(names))
    return iter([("", group[names[number]] if names[number] else group)]), len(names)


def _fields(well, prefix: str) -> Iterator[tuple[str, object]]:
    for image in _metadata(well)["well"]["images"]:
        yield f"{prefix}{image['path']}", well[image["path"]]


def _open_image(group, path, series_count: int, max_pixels: int) -> PixelArray:
    ome = _metadata(group)
    multiscale = ome["multiscales"][0]
    axes, finest = multiscale.get("axes", [""]), multiscale["datasets"][0]
    if isinstance(axes[0], str):
        raise DatasetError(
            f"{path}: does not say what its axes are, as OME-Zarr before 0.4. Convert it to 0.4 or "
            "0.5, e.g. by ngff-zarr."
        )
    array = group[finest["path"]]
    letters = "".join(_LETTERS.get(each.get("type")) or each["name"].upper() for each in axes)
    if not len(letters) == len(axes) == array.ndim:
        raise ValueError(f"the axes {letters} are not those of the shape {array.shape}")
    dtype, to_values = meant_values(array.dtype, str(path))
    if prod(array.chunks) > max_pixels:
        raise DatasetError(
            f"{path}: a single chunk has {' x '.join(map(str, array.chunks))} pixels. Save it with "
            f"smaller chunks, or raise --max-pixels (now {max_pixels})."
        )
    channels = ome.get("omero", {}).get("channels", ())
    return PixelArray(
        pixels=_Pixels(array, f"{path}/{array.path}"),
        levels=tuple(
            (_Pixels(level, f"{path}/{level.path}"), level.shape)
            for level in (group[each["path"]] for each in multiscale["datasets"][1:])
            if (level.ndim, level.dtype) == (array.ndim, array.dtype)
            and prod(level.chunks) <= max_pixels
        ),
        letters=letters,
        shape=array.shape,
        dtype=dtype,
        colours=1,
        pixel_size=_pixel_size(letters, multiscale),
        series_count=series_count,
        channel_names=tuple(str(each.get("label", "")) for each in channels),
        to_values=to_values,
    )


def _pixel_size(letters: str, multiscale: dict) -> tuple[float, float] | None:
    """Return (y, x) in micrometres, or None."""
    if not {"Y", "X"} <= set(letters):
        return None
    lengths = np.ones(len(letters))
    for level in (multiscale["datasets"][0], multiscale):
        for each in level.get("coordinateTransformations", ()):
            if each["type"] == "scale":
                lengths *= each["scale"]
    places = [letters.index(letter) for letter in "YX"]
    units = [multiscale["axes"][place].get("unit", "") for place in places]
    return in_micrometres(lengths[places].tolist(), units)


@dataclass(frozen=True)
class _Pixels:
    """A Zarr array whose errors are the user's."""

    array: object
    where: str

    def __getitem__(self, slices: tuple[slice, ...]) -> np.ndarray:
        with library_errors(f"{self.where}: cannot be decoded"):
            return self.array[slices]
