"""Images and ``.mat`` files with ``inst_map`` and, per object, ``inst_type``: CoNSeP, Kumar, CPM.

Graham et al., "HoVer-Net", Medical Image Analysis 58, 2019.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ...data.label_files import check_size
from ...errors import DatasetError
from .label_maps import to_objects
from .samples import Sample, beside_images, class_of, images_of, pair


def find(folder: Path) -> str | None:
    """Return why a folder is of this format; None: it is not."""
    files = beside_images(folder, (".mat",))
    return f"{next(iter(files.values())).name} of HoVer-Net" if files else None


def read(folder: Path, classes: Sequence[str] = ()) -> Iterator[Sample]:
    """Read a folder; ``classes``: the names of the types 1, 2, ..., by default the numbers."""
    files = beside_images(folder, (".mat",))
    return pair(images_of(folder), files, partial(_read_objects, tuple(classes)))


def _read_objects(classes: tuple[str, ...], path: Path, shape: tuple[int, int]) -> list[dict]:
    from scipy.io import loadmat

    content = loadmat(path, variable_names=("inst_map", "inst_type"))
    if "inst_map" not in content:
        raise DatasetError(f"{path}: has no inst_map. Save the numbers of the objects under it.")
    numbered = np.asarray(content["inst_map"])
    check_size(path, numbered.shape, shape)
    numbers = np.unique(numbered[numbered > 0])
    objects = to_objects(numbered, "object", str(path))
    types = np.ravel(content.get("inst_type", np.ones(len(numbers)))).astype(int)
    # Types are listed by number in some files, and by order, without gaps, in others.
    if len(types) == numbers.max(initial=0):
        types = types[numbers.astype(int) - 1]
    elif len(types) != len(numbers):
        raise DatasetError(
            f"{path}: has {len(numbers)} objects, but {len(types)} types. Write one for each."
        )
    kinds = zip(objects, types.tolist(), strict=True)
    return [{**each, "category": class_of(kind, classes, path)} for each, kind in kinds]
