"""Small scans with the headers of real ones."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

# x, y, z; in SimpleITK's axes (LPS). BraTS' files; a CT that runs to the right and the front.
BRAIN = {"size": (10, 12, 8), "spacing": (1, 1, 1), "origin": (0, -239, 0)}
CT = {"size": (10, 12, 8), "spacing": (0.7, 0.7, 2.5), "origin": (172.9, 179.3, -368.0)}
CT["direction"] = (-1, 0, 0, 0, -1, 0, 0, 0, 1)


def write_scan(path, array, spacing=(1, 1, 1), origin=(0, 0, 0), direction=None, **_) -> Path:
    """Write (D, H, W) as a file of the suffix's format."""
    image = sitk.GetImageFromArray(np.asarray(array))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction:
        image.SetDirection(direction)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def noise(geometry, seed=0, dtype=np.int16) -> np.ndarray:
    """Voxels (D, H, W) of HU."""
    return np.random.default_rng(seed).integers(-1000, 1000, geometry["size"][::-1]).astype(dtype)


def blocks(geometry, *labels, dtype=np.uint8) -> np.ndarray:
    """Labels (D, H, W): 0 and the others, slice by slice."""
    array = np.zeros(geometry["size"][::-1], dtype)
    for index, label in enumerate(labels):
        array[index + 1, 2:5, 3:7] = label
    return array


def cases_of(content: dict) -> dict[str, dict]:
    """All cases of a dataset.json, by id."""
    return {case["id"]: case for split in ("train", "val", "test") for case in content[split]}
