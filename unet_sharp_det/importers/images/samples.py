"""What the readers give: samples, each an image and a function that reads its objects."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...data.label_files import by_stem
from ...errors import DatasetError
from ...images.source import SUFFIXES

#: Names of folders of images, in lower case.
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "raw", "tissue images", "tissue_images")

#: What a folder or file of a split is called.
SPLIT_NAMES = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "val", "valid": "val", "validation": "val"},
}


@dataclass(frozen=True)
class Sample:
    """An image with its objects.

    Attributes:
        name: unique in its data set; the split goes by it, and copied images get it.
        image: a file; a function that returns uint8 or uint16 (H, W) or (H, W, 3), which becomes a
            file; or None, if ``read`` says why there is none.
        read: from the image's (height, width) to its objects: dicts of ``category``, its name, and
            ``segmentation`` in COCO's format, perhaps with ``iscrowd``. Raises a DatasetError if
            the image cannot be used.
        split: "train", "val" or "test", if the format says so.
        categories: names that are told, whether there are objects of them or not.
    """

    name: str
    image: Path | Callable[[], np.ndarray] | None
    read: Callable[[tuple[int, int]], list[dict]]
    split: str | None = None
    categories: tuple[str, ...] = ()


def files_in(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """Return the files of a folder with one of the suffixes, sorted, hidden ones left out."""
    suffixes = tuple(suffixes)
    if not folder.is_dir():
        return []
    files = (each for each in folder.iterdir() if each.suffix.lower() in suffixes)
    return sorted(each for each in files if not each.name.startswith(".") and each.is_file())


def find_folder(folder: Path, names: Iterable[str]) -> Path | None:
    """Return the subfolder whose name, in lower case, comes first in ``names``."""
    there = {each.name.lower(): each for each in folder.iterdir() if each.is_dir()}
    return next((there[name] for name in names if name in there), None)


def beside_images(folder: Path, suffixes: Iterable[str], stem_of=lambda path: path.stem) -> dict:
    """Return the annotation files of a folder by the image's stem: those in it, or in the first
    subfolder that has some."""
    for place in (folder, *sorted(each for each in folder.iterdir() if each.is_dir())):
        if files := files_in(place, suffixes):
            return by_stem(files, stem_of)
    return {}


def images_of(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by their stems: those of its folder of images, if any."""
    return by_stem(files_in(find_folder(folder, IMAGE_FOLDERS) or folder, SUFFIXES))


def pair(
    images: Mapping[str, Path],
    annotations: Mapping[str, Path],
    read: Callable[[Path, tuple[int, int]], list[dict]],
    prefix: str = "",
) -> Iterator[Sample]:
    """Pair images and annotation files by their stems; what has no partner says so when read."""
    for stem, image in images.items():
        if stem in annotations:
            yield Sample(prefix + stem, image, partial(read, annotations[stem]))
        else:
            fault = f"{image}: has no annotation. Add it, or take the image away."
            yield Sample(prefix + stem, None, refuse(fault))
    for stem, path in annotations.items():
        if stem not in images:
            fault = f"{path}: there is no image '{stem}'. Add it, or take the file away."
            yield Sample(prefix + stem, None, refuse(fault))


def refuse(fault: str) -> Callable[[tuple[int, int]], list[dict]]:
    """Return a ``Sample.read`` that raises a DatasetError of this text."""

    def read(_):
        raise DatasetError(fault)

    return read


def split_of_name(name: str) -> str | None:
    """Return the split that a word of a name says, e.g. "val" of "instances_val2017"."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def class_of(number: int, classes: Sequence[str], path: Path) -> str:
    """Return the name of a class, from 1; without names the number.

    Raises:
        DatasetError: there are names, but not so many.
    """
    if not classes:
        return str(number)
    if not 1 <= number <= len(classes):
        raise DatasetError(
            f"{path}: holds the class {number}, but --classes names {len(classes)}. Name the "
            "classes 1, 2, ... in their order."
        )
    return classes[number - 1]
