"""Images and label maps: 0 is background, each object has a number.

In folders ``images`` and ``masks`` or ``labels``; in one folder, as ``X.png`` and ``X_masks.png``;
or as the Cell Tracking Challenge has them, ``01/t000.tif`` and ``01_GT/SEG/man_seg000.tif``.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...data.label_files import ENDINGS, by_stem, check_size, image_stem, without_ending
from ...errors import DatasetError
from ...images.decoding import read_labels, read_stored
from ...images.source import SUFFIXES
from ...masks import InstanceMap, SparseInstances
from .cellpose_session import read_masks
from .samples import IMAGE_FOLDERS, Sample, files_in, find_folder, pair

_LABEL_FOLDERS = ("label masks", "labels", "label", "masks", "mask", "gt", "ground_truth")
_LABEL_SUFFIXES = (*SUFFIXES, ".npy")
_IMAGE_ENDINGS = ("_img", "_image")
_LOOKED_AT = 5


@dataclass(frozen=True)
class Pairs:
    """Images and label maps by stem; ``why`` says where they lie, ``prefix`` in which subfolder."""

    images: dict[str, Path]
    labels: dict[str, Path]
    why: str
    prefix: str = ""


def find(folder: Path) -> str | None:
    """Return why a folder is of this format; None: it is not."""
    pairs = find_pairs(folder)
    return pairs[0].why if pairs and not look_like_masks(pairs) else None


def read(folder: Path, classes: Sequence[str] = ()) -> Iterator[Sample]:
    """Read a folder; ``classes``: the name of all objects."""
    category = classes[0] if classes else "object"

    def read_objects(path: Path, shape: tuple[int, int]) -> list[dict]:
        labels = read_map(path, shape)
        if len(np.unique(labels[labels > 0])) == 1 and _label_parts(labels).max() > 1:
            raise DatasetError(
                f"{path}: holds only 0 and {labels.max()}, in several parts. If each part is an "
                "object, give --format masks; else number the objects."
            )
        return to_objects(labels, category, str(path))

    for pairs in find_pairs(folder):
        yield from pair(pairs.images, pairs.labels, read_objects, pairs.prefix)


def find_pairs(folder: Path) -> list[Pairs]:
    """Return the images and label maps of a folder, or of its subfolders; [] if there are none."""
    if pairs := _in_folders(folder) or _in_one_folder(folder):
        return [replace(pairs, prefix="")]
    subfolders = sorted(each for each in folder.iterdir() if each.is_dir())
    found = [_tracking(each) or _in_folders(each) or _in_one_folder(each) for each in subfolders]
    return [each for each in found if each and each.images.keys() & each.labels.keys()]


def look_like_masks(pairs: Sequence[Pairs]) -> bool:
    """Whether numbers of label maps are not of objects: the first few that can be read have one
    number, of several parts, or most of them two parts or more per number."""
    values, numbers, parts = set(), [], []
    for path in itertools.islice((p for each in pairs for p in each.labels.values()), _LOOKED_AT):
        try:
            labels = read_map(path)
        except DatasetError:
            continue  # It is told when it is read.
        found = np.unique(labels[labels > 0]).tolist()
        values.update(found)
        numbers.append(len(found))
        parts.append(int(_label_parts(labels).max(initial=0)))
    if len(values) == 1:
        return sum(parts) > sum(numbers)
    votes = [split >= 2 * count for count, split in zip(numbers, parts, strict=True) if count]
    return 2 * sum(votes) > len(votes)


def _label_parts(numbers: np.ndarray) -> np.ndarray:
    """Number the parts of equal numbers (H, W) other than 0; corners connect."""
    from skimage.measure import label

    return label(numbers, connectivity=2)


def read_map(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read whole numbers (H, W); DatasetError: they are none, or not of this shape."""
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise DatasetError(f"{path}: is a JPEG, which changes numbers. Save labels as PNG or TIFF.")
    try:
        labels = read_labels(path)
    except DatasetError:
        labels = read_masks(path) if _is_session(path) else _read_red(path)
        if labels is None:
            raise
    check_size(path, labels.shape, shape or labels.shape)
    return labels


def _read_red(path: Path) -> np.ndarray | None:
    """Number the parts of equal red of a file in which no other colour is used, as of BBBC039."""
    colours = read_stored(path)
    if colours.shape[2:] not in ((3,), (4,)) or colours[:, :, 1:3].any():
        return None
    return _label_parts(colours[:, :, 0])


def to_objects(labels: np.ndarray, category: str, where: str) -> list[dict]:
    """Return the objects of a label map (H, W), of one category; ``where`` is for the errors."""
    numbered = InstanceMap.from_labels(labels, where).labels
    rles = SparseInstances.from_label_map(numbered).to_rles()
    return [{"category": category, "segmentation": rle} for rle in rles]


def read_channels(labels: np.ndarray, classes: Sequence[str], where: str, _) -> list[dict]:
    """Return the objects of label maps (H, W, C), each of another class."""
    channels = enumerate(classes)
    return [each for k, name in channels for each in to_objects(labels[:, :, k], name, where)]


def _in_folders(folder: Path) -> Pairs | None:
    images, labels = (find_folder(folder, each) for each in (IMAGE_FOLDERS, _LABEL_FOLDERS))
    if not images or not labels:
        return None
    by_image = by_stem(files_in(images, SUFFIXES))
    files = files_in(labels, _LABEL_SUFFIXES)
    found = by_stem(files, lambda path: image_stem(path, None, set(by_image)))
    why = f"{images.name}/ beside {labels.name}/"
    return Pairs(by_image, found, why, f"{folder.name}/") if by_image and found else None


def _in_one_folder(folder: Path) -> Pairs | None:
    stems = {p: without_ending(p.stem, ENDINGS) for p in files_in(folder, _LABEL_SUFFIXES)}
    ending = {path: stem for path, stem in stems.items() if stem != path.stem}
    drawn = {stem for path, stem in ending.items() if not _is_session(path)}
    labels = {p: stem for p, stem in ending.items() if not (_is_session(p) and stem in drawn)}
    images = [path for path in files_in(folder, SUFFIXES) if path not in labels]
    if not labels or not images:
        return None
    why = f"{next(iter(labels)).name} beside {images[0].name}"
    by_image = by_stem(images, lambda path: without_ending(path.stem, _IMAGE_ENDINGS))
    return Pairs(by_image, by_stem(labels, labels.get), why, f"{folder.name}/")


def _is_session(path: Path) -> bool:
    """Whether a file is what Cellpose's window opens, which lies beside the masks it saves."""
    return path.name.endswith("_seg.npy")


def _tracking(folder: Path) -> Pairs | None:
    truth = folder.with_name(f"{folder.name}_GT") / "SEG"
    labels = files_in(truth, (".tif",))
    if not labels:
        return None

    def frame(path):
        return re.sub(r"\D+", "", path.stem)

    wanted = by_stem(labels, frame)
    images = by_stem(files_in(folder, (".tif",)), frame)
    # Of most frames there are no label maps.
    images = {key: path for key, path in images.items() if key in wanted}
    return Pairs(images, wanted, f"{truth.parent.name}/SEG/ of {folder.name}/", f"{folder.name}/")
