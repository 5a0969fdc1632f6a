"""Label maps with faulty copies, as a model's predictions are: merged, split, lost, shifted."""

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO
from scipy import ndimage


def random_pair(seed, size=(56, 64), count=14):
    """A map of objects that touch, and a faulty copy of it."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform((0, 0), size, (count, 2))
    reach = rng.uniform(4, 11, count)
    grid = np.stack(np.mgrid[: size[0], : size[1]], axis=-1)
    distances = np.linalg.norm(grid[:, :, None] - centres, axis=-1) / reach
    true = np.where(distances.min(axis=-1) < 1, distances.argmin(axis=-1) + 1, 0)
    return true, faulty_copy(true, rng)


def sample_pairs(json_file, seed=0):
    """The true maps of a COCO data set, painted by pycocotools, and a faulty copy of each.

    Every n-th pixel is taken, to about 128 in height: the originals are slow.
    """
    coco = COCO(json_file)
    rng = np.random.default_rng(seed)
    pairs = []
    for image in coco.imgs.values():
        true = np.zeros((image["height"], image["width"]), int)
        for number, annotation in enumerate(coco.imgToAnns[image["id"]], 1):
            true[mask_util.decode(annotation["segmentation"]) > 0] = number
        step = max(1, min(true.shape) // 128)
        true = true[::step, ::step]
        pairs.append((true, faulty_copy(true, rng)))
    return pairs


def faulty_copy(true, rng):
    """A map with every kind of fault; one object stays as it is, so that there is a match."""
    numbers = np.unique(true[true > 0])
    kept, *others = rng.permutation(numbers)
    predicted = np.zeros_like(true)
    for number in others:
        mask = true == number
        for part in FAULTS[rng.integers(len(FAULTS))](mask, true, rng):
            predicted[part] = predicted.max() + 1
    for _ in range(rng.integers(1, 4)):  # objects that are not there
        row, column = rng.integers(0, true.shape)
        predicted[row : row + 5, column : column + 6] = predicted.max() + 1
    predicted[true == kept] = predicted.max() + 1
    return _numbered_from_1(predicted)


def _dilate(mask, true, rng):
    yield ndimage.binary_dilation(mask, iterations=rng.integers(1, 3))


def _erode(mask, true, rng):
    yield ndimage.binary_erosion(mask, iterations=rng.integers(1, 3))


def _shift(mask, true, rng):
    yield ndimage.shift(mask, rng.integers(-4, 5, 2), order=0)


def _split(mask, true, rng):
    column = ndimage.center_of_mass(mask)[1] if mask.any() else 0
    left = np.arange(mask.shape[1]) < column
    yield mask & left
    yield mask & ~left


def _merge(mask, true, rng):
    near = np.unique(true[ndimage.binary_dilation(mask, iterations=2)])
    yield np.isin(true, near[near > 0])


def _keep(mask, true, rng):
    yield mask


def _drop(mask, true, rng):
    return ()


FAULTS = (_dilate, _erode, _shift, _split, _merge, _keep, _drop)


def _numbered_from_1(labels):
    values, numbered = np.unique(labels, return_inverse=True)
    return numbered.reshape(labels.shape) + (values[0] != 0)
