"""QuPath's GeoJSON: a ``.geojson`` per image with objects and their classes."""

from collections.abc import Iterator
from pathlib import Path

from ...errors import DatasetError
from ...files import read_json
from .outlines import paint
from .samples import Sample, beside_images, images_of, pair

_RINGS = {
    "Polygon": lambda coordinates: coordinates,
    "MultiPolygon": lambda coordinates: [ring for polygon in coordinates for ring in polygon],
}


def find(folder: Path) -> str | None:
    """Return why a folder is of this format; None: it is not."""
    files = beside_images(folder, (".geojson",), _stem)
    return f"{next(iter(files.values())).name} of QuPath" if files else None


def read(folder: Path) -> Iterator[Sample]:
    """Read a folder; an object without a class is an "object"."""
    files = beside_images(folder, (".geojson",), _stem)
    return pair(images_of(folder), files, _read_objects)


def _stem(path: Path) -> str:
    return path.stem.removesuffix("_outlines")  # which predict --outputs geojson appends


def _read_objects(path: Path, shape: tuple[int, int]) -> list[dict]:
    content = read_json(path, remedy="Export it from QuPath again.")
    features = content.get("features") if isinstance(content, dict) else content
    if not isinstance(features, list) or not all(isinstance(each, dict) for each in features):
        raise DatasetError(f"{path}: holds no features. Export it from QuPath as GeoJSON.")
    objects = []
    for number, feature in enumerate(features):
        geometry = feature.get("geometry") or {}
        rings = _RINGS.get(geometry.get("type"))
        where = f"{path}: feature {number} (counted from 0)"
        if rings is None:
            raise DatasetError(
                f"{where}: is a {geometry.get('type')}, which has no area. Delete it."
            )
        classification = (feature.get("properties") or {}).get("classification") or {}
        outline = paint(rings(geometry.get("coordinates") or []), shape, where)
        # QuPath writes "names" since version 0.5, and shows several of them so.
        names = classification.get("names") or [classification.get("name") or "object"]
        category = ": ".join(map(str, names))
        objects.append({"category": category, "segmentation": outline})
    return objects
