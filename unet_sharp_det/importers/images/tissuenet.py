"""TissueNet: ``.npz`` files with X (N, H, W, 2), nucleus and membrane, and y (N, H, W, 2).

Greenwald et al., "Whole-cell segmentation of tissue images ...", Nature Biotechnology 40, 2022.
Channel 0 of y numbers whole cells, channel 1 nuclei. An image becomes red (nuclei), green
(membranes) and an empty blue.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import DatasetError, library_errors
from .label_maps import read_channels
from .samples import Sample, files_in, split_of_name

CLASSES = ("cell", "nucleus")


def find(folder: Path) -> str | None:
    """Return why a folder, or a file, is of this format; None: it is not."""
    files = _archives(folder)
    return f"{files[0].name} has X and y" if files else None


def read(folder: Path) -> Iterator[Sample]:
    """Read the archives of a folder, or one; train, val and test in their names are the splits."""
    files = _archives(folder)
    for path in files:
        with np.load(path) as archive:
            images, labels = archive["X"], archive["y"]
        if images.shape != labels.shape or images.shape[3:] != (2,):
            raise DatasetError(
                f"{path}: X has the shape {images.shape}, y {labels.shape}. TissueNet's are both "
                "(N, H, W, 2)."
            )
        split = split_of_name(path.stem) if len(files) > 1 else None
        for index, pixels in enumerate(images):
            objects = partial(read_channels, labels[index], CLASSES, f"{path}, image {index}")
            yield Sample(f"{path.stem}_{index:05d}", partial(_picture, pixels), objects, split)


def _archives(folder: Path) -> list[Path]:
    files = files_in(folder, (".npz",)) if folder.is_dir() else [folder]
    return [each for each in files if each.suffix == ".npz" and _has_both(each)]


def _has_both(path: Path) -> bool:
    fault = f"{path}: cannot be read"
    with library_errors(fault, "Download it again."), np.load(path) as archive:
        return {"X", "y"} <= set(archive.files)


def _picture(pixels: np.ndarray) -> np.ndarray:
    return np.pad(np.clip(np.rint(pixels), 0, 2**16 - 1), [(0, 0), (0, 0), (0, 1)]).astype(
        np.uint16
    )
