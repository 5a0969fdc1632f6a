"""Label maps, what semantic models train on: one integer per pixel, read or painted.

0 is background, c + 1 the category with detectron2's contiguous id c, 255 is ignored.
"""

import itertools

import numpy as np

from ..errors import DatasetError
from ..images.decoding import read_labels
from ..masks import union_mask

IGNORED = 255


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
