"""PanNuke: ``images.npy`` (N, H, W, 3) and ``masks.npy`` (N, H, W, 6) of tissue.

Gamper et al., "PanNuke Dataset Extension, Insights and Baselines", 2020. Channels 0 to 4 of a mask
hold the objects of a class, each a number; channel 5 is the background.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import DatasetError, library_errors
from .label_maps import read_channels
from .samples import Sample

CLASSES = ("neoplastic", "inflammatory", "connective", "dead", "epithelial")


def find(folder: Path) -> str | None:
    """Return why a folder is of this format; None: it is not."""
    return "images.npy and masks.npy" if _folds(folder) else None


def read(folder: Path) -> Iterator[Sample]:
    """Read a fold, or a folder of folds, of which one image is in memory at a time."""
    for image_file, mask_file in _folds(folder):
        with library_errors(f"{mask_file}, or its images, cannot be read", "Download them again."):
            images, masks = (np.load(each, mmap_mode="r") for each in (image_file, mask_file))
        shapes = (images.shape[:3], images.shape[3:], masks.shape[3:])
        if shapes != (masks.shape[:3], (3,), (6,)):
            raise DatasetError(
                f"{mask_file}: has the shape {masks.shape}, its images {images.shape}. PanNuke's "
                "are (N, 256, 256, 6) and (N, 256, 256, 3)."
            )
        place = "_".join(mask_file.parent.relative_to(folder).parts) or folder.name
        for index in range(len(images)):
            objects = partial(read_channels, masks[index], CLASSES, f"{mask_file}, image {index}")
            yield Sample(f"{place}_{index:05d}", partial(_pixels, images, index), objects)


def _folds(folder: Path) -> list[tuple[Path, Path]]:
    """The images.npy and masks.npy of each fold: in one folder, or as distributed, in
    ``images/fold1`` and ``masks/fold1``."""
    found = []
    for masks in sorted(folder.rglob("masks.npy")) if folder.is_dir() else []:
        parts = masks.relative_to(folder).parts
        swapped = ("images" if part == "masks" else part for part in parts[:-1])
        places = (masks.with_name("images.npy"), folder.joinpath(*swapped, "images.npy"))
        found += [(place, masks) for place in places if place.is_file()][:1]
    return found


def _pixels(images: np.ndarray, index: int) -> np.ndarray:
    return np.clip(np.rint(images[index]), 0, 255).astype(np.uint8)
