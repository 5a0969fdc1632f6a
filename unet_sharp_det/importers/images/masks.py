"""Images and masks of what is an object, without numbers of objects: each part is one.

The layouts are those of :mod:`.label_maps`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from .label_maps import find_pairs, look_like_masks, read_map, to_objects
from .samples import Sample, class_of, pair


def find(folder: Path) -> str | None:
    """Return why a folder is of this format; None: it is not."""
    pairs = find_pairs(folder)
    if not pairs or not look_like_masks(pairs):
        return None
    return f"{pairs[0].why}, numbers of several parts"


def read(folder: Path, classes: Sequence[str] = ()) -> Iterator[Sample]:
    """Read a folder; ``classes``: the names of the numbers 1, 2, ..., or of 255 if it is alone.
    Without names 255 is "object", and another number a class of its name.

    Parts that touch at corners only are two objects.
    """

    def read_objects(path: Path, shape: tuple[int, int]) -> list[dict]:
        mask, objects = read_map(path, shape), []
        for value in np.unique(mask[mask > 0]).tolist():
            parts, _ = ndimage.label(mask == value)
            if len(classes) < 2 and value == 255:
                category = classes[0] if classes else "object"
            else:
                category = class_of(value, classes, path)
            objects += to_objects(parts, category, str(path))
        return objects

    for pairs in find_pairs(folder):
        yield from pair(pairs.images, pairs.labels, read_objects, pairs.prefix)
