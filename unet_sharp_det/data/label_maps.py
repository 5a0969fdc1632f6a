"""Label maps, what semantic models train on: one integer per pixel, read or painted.

0 is background, c + 1 the category with detectron2's contiguous id c, 255 is ignored.
"""

import itertools
import numbers
from collections.abc import Iterable

import numpy as np
import pycocotools.mask as mask_util

from unet_sharp_det.errors import DatasetError

from ..images.decoding import read_labels

IGNORED = 255
_LARGEST_COORDINATE = 1e6


def read_label_map(record: dict) -> np.ndarray:
    """Return the label map of an image: its file if it has one, else painted from annotations.

    Painted, each object gets ``category_id + 1``; of objects that overlap, the last one has the
    shared pixels. Crowd regions are ignored where no object lies.

    Args:
        record: a dataset dict in detectron2's standard format, with ``height``, ``width``, and
            ``sem_seg_file_name`` (an image file of one channel) or ``annotations``.

    Returns:
        integers (H, W), uint8 where painted.

    Raises:
        DatasetError: there is neither of the two, the file cannot be decoded or holds no integers
            (H, W), or an annotation lacks a segmentation of this size.
    """
    shape = (record["height"], record["width"])
    if record.get("sem_seg_file_name"):
        return _read(record["sem_seg_file_name"], shape)
    where = record.get("file_name", "the dataset dict")
    if "annotations" not in record:
        raise DatasetError(
            f"{where}: has no labels. Give 'sem_seg_file_name' (register_coco_nuclei's "
            "sem_seg_root), or 'annotations' to paint them from."
        )
    return _paint(record["annotations"], shape, where)


def union_mask(segmentations: Iterable, shape: tuple[int, int], where: str) -> np.ndarray:
    """Return the pixels that any of the segmentations covers.

    Args:
        segmentations: polygons or RLEs, as COCO has them.
        shape: (height, width) of the image.
        where: what the errors name.

    Returns:
        bool (H, W).

    Raises:
        DatasetError: a segmentation is missing or has another size.
    """
    rles = [to_rle(each, shape, where) for each in segmentations]
    if not rles:
        return np.zeros(shape, bool)
    return mask_util.decode(mask_util.merge(rles)).view(bool)


def _read(path, shape: tuple[int, int]) -> np.ndarray:
    labels = read_labels(path)
    if labels.shape != shape:
        raise DatasetError(
            f"{path}: has (height, width) {labels.shape}, but its image has {shape}."
        )
    return labels


def _paint(annotations: list[dict], shape: tuple[int, int], where: str) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labelled = [(_label_of(annotation, where), annotation) for annotation in annotations]
    labelled.sort(key=lambda pair: pair[0] != IGNORED)  # Crowd first, to be painted over.
    for label, group in itertools.groupby(labelled, key=lambda pair: pair[0]):
        segmentations = [annotation.get("segmentation") for _, annotation in group]
        labels[union_mask(segmentations, shape, where)] = label
    return labels


def _label_of(annotation: dict, where: str) -> int:
    if annotation.get("iscrowd", 0):
        return IGNORED
    label = annotation["category_id"] + 1
    if not 1 <= label < IGNORED:
        raise DatasetError(
            f"{where}: has the category_id {label - 1}, but label maps hold 0 to {IGNORED - 2}."
        )
    return label


def to_rle(segmentation, shape: tuple[int, int], where: str) -> dict:
    """Return a COCO segmentation, polygons or RLE, as one compressed RLE.

    Args:
        segmentation: a list of polygons, or an RLE with compressed or plain counts.
        shape: (height, width) of the image.
        where: what the errors name.

    Raises:
        DatasetError: the segmentation is missing, malformed or of another size.
    """
    if not segmentation:
        raise DatasetError(
            f"{where}: has annotations without 'segmentation', which labels are painted from. "
            "Annotate masks, or give 'sem_seg_file_name'."
        )
    try:
        if isinstance(segmentation, list):
            return _polygons_to_rle(segmentation, shape)
        size, counts = tuple(segmentation["size"]), segmentation["counts"]
        if not all(isinstance(side, numbers.Integral) for side in size):
            raise TypeError(f"the size {size} is not of whole numbers")
        if size != shape:
            raise DatasetError(
                f"{where}: has a mask of (height, width) {size}, but the image has {shape}."
            )
        if isinstance(counts, list):
            return _counts_to_rle(segmentation, shape)
        if not isinstance(counts, str | bytes):
            raise TypeError(f"the counts {counts} are neither a text nor a list")
        return segmentation
    except DatasetError:
        raise
    except Exception as error:  # pycocotools raises what comes of it.
        raise DatasetError(
            f"{where}: has a segmentation that is neither polygons nor an RLE "
            f"({type(error).__name__}: {error})."
        ) from error


def find_polygon_fault(segmentation) -> str:
    """Say which polygon of a COCO segmentation encloses nothing; "" if none, or it is an RLE."""
    for polygon in segmentation if isinstance(segmentation, list) else ():
        if len(polygon) < 6 or len(polygon) % 2:
            return f"a polygon of {len(polygon)} numbers: write x and y of 3 points or more"
    return ""


def _polygons_to_rle(polygons: list, shape: tuple[int, int]) -> dict:
    if fault := find_polygon_fault(polygons):
        raise ValueError(f"it has {fault}")
    for polygon in polygons:
        # On others pycocotools crashes the process.
        if not (np.abs(np.asarray(polygon, np.float64)) <= _LARGEST_COORDINATE).all():
            raise ValueError("a polygon has a coordinate that is no finite number of pixels")
    rles = mask_util.frPyObjects(polygons, *shape)
    return rles[0] if len(rles) == 1 else mask_util.merge(rles)


def _counts_to_rle(segmentation: dict, shape: tuple[int, int]) -> dict:
    counts = segmentation["counts"]
    if not all(isinstance(count, numbers.Integral) and count >= 0 for count in counts):
        raise ValueError("the counts must be whole numbers, 0 or more")
    return mask_util.frPyObjects(segmentation, *shape)
