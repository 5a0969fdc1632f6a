"""Outlines of Aperio ImageScope, a ``.xml`` per image: MoNuSeg.

Kumar et al., "A Multi-Organ Nucleus Segmentation Challenge", IEEE TMI 39(5), 2020.
"""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from .outlines import paint
from .samples import Sample, beside_images, images_of, pair


def find(folder: Path) -> str | None:
    """Return why a folder is of this format; None: it is not."""
    files = beside_images(folder, (".xml",))
    first = next(iter(files.values()), None)
    if first is None or b"<Vertex" not in first.read_bytes()[:65536]:
        return None
    return f"{first.name} has vertices of regions"


def read(folder: Path) -> Iterator[Sample]:
    """Read a folder; a region's class is the name of its annotation, else "object"."""
    return pair(images_of(folder), beside_images(folder, (".xml",)), _read_objects)


def _read_objects(path: Path, shape: tuple[int, int]) -> list[dict]:
    objects = []
    for annotation in ElementTree.parse(path).iter("Annotation"):
        category = annotation.get("Name") or "object"
        for number, region in enumerate(annotation.iter("Region"), 1):
            ring = [(vertex.get("X"), vertex.get("Y")) for vertex in region.iter("Vertex")]
            where = f"{path}: region {region.get('Id', number)}"
            objects.append({"category": category, "segmentation": paint([ring], shape, where)})
    return objects
