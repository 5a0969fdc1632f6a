"""A mask file per object: ``ID/images/X.png`` and ``ID/masks/*``, as DSB2018 is distributed.

What is above 0 in a mask is the object.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from ...data.dsb2018_read import read_mask
from ...data.label_files import check_size
from ...images.source import SUFFIXES
from ...masks import encode_mask
from .samples import Sample, files_in, refuse


def find(folder: Path) -> str | None:
    """Return why a folder is of this format; None: it is not."""
    samples = _folders(folder)
    return f"{samples[0].name}/images/ and masks/" if samples else None


def read(folder: Path, classes: Sequence[str] = ()) -> Iterator[Sample]:
    """Read a folder; ``classes``: the name of all objects."""
    category = classes[0] if classes else "object"
    for sample in _folders(folder):
        images = files_in(sample / "images", SUFFIXES)
        if len(images) == 1:
            read_objects = partial(_read_objects, sample / "masks", category)
            yield Sample(sample.name, images[0], read_objects)
        else:
            fault = f"{sample / 'images'}: holds {len(images)} images. Leave one there."
            yield Sample(sample.name, None, refuse(fault))


def _folders(folder: Path) -> list[Path]:
    inner = folder / "stage1_train"
    folder = inner if inner.is_dir() else folder
    found = sorted(each.parent for each in folder.glob("[!.]*/masks") if each.is_dir())
    found = [each for each in found if (each / "images").is_dir()]
    # PanNuke has such folders, too, but no picture in them.
    return found if any(files_in(each / "images", SUFFIXES) for each in found) else []


def _read_objects(folder: Path, category: str, shape: tuple[int, int]) -> list[dict]:
    objects = []
    for path in sorted(folder.glob("[!.]*")):
        mask = read_mask(path)
        check_size(path, mask.shape, shape)
        objects.append({"category": category, "segmentation": encode_mask(mask > 0, shape)})
    return objects
