"""Label maps, what semantic models train on: one integer per pixel, read or painted.

0 is background, c + 1 the category with detectron2's contiguous id c, 255 is ignored.
"""

import itertools
import logging
from collections.abc import Sequence

import numpy as np
import torch

from ..errors import DatasetError
from ..images.decoding import read_labels
from ..masks import InstanceMap, distance_bands, union_mask
from ..modeling.semantic_labels import SemanticLabels
from .label_files import check_size

IGNORED = 255
_SAMPLE = 100

logger = logging.getLogger(__name__)


def read_label_map(record: dict) -> np.ndarray:
    """Return the label map of an image: its file if it has one, else painted from annotations.

    Painted, each object gets ``category_id + 1``; of objects that overlap, the last one has the
    shared pixels. Crowd regions are ignored where no object lies.

    Args:
        record: a dataset dict of detectron2, with ``height``, ``width``, and
            ``sem_seg_file_name`` (an image file of one channel) or ``annotations``.

    Returns:
        integers (H, W), uint8 where painted.

    Raises:
        DatasetError: there is neither of the two, the file holds no integers (H, W), or an
            annotation no segmentation of this size.
    """
    shape = (record["height"], record["width"])
    if path := record.get("sem_seg_file_name"):
        labels = read_labels(path)
        check_size(path, labels.shape, shape)
        return labels
    where = record.get("file_name", "the dataset dict")
    if "annotations" not in record:
        raise DatasetError(
            f"{where}: has no labels. Give 'sem_seg_file_name' (register_coco_nuclei's "
            "sem_seg_root), or 'annotations' to paint them from."
        )
    return _paint_classes(record["annotations"], shape, where)


def paint_distances(record: dict, semantic: SemanticLabels) -> np.ndarray:
    """Return the bands of distance of an image's objects, see :func:`.distance_bands`.

    Args:
        record: a dataset dict of detectron2 with ``height``, ``width`` and ``annotations``. Crowd
            regions are ignored where no object lies.
        semantic: of ``target`` "distance": of several classes each has bands of its own.

    Returns:
        uint8 (H, W).

    Raises:
        DatasetError: there are no annotations, or one has no segmentation of this size, or a class
            that is not among several.
    """
    shape, where = (record["height"], record["width"]), record.get("file_name", "the dataset dict")
    if "annotations" not in record:
        raise DatasetError(f"{where}: has no labels. Give 'annotations', a mask of each object.")
    masks: dict[bool, list] = {False: [], True: []}
    for annotation in record["annotations"]:
        masks[bool(annotation.get("iscrowd", 0))].append(annotation.get("segmentation"))
    objects = InstanceMap.from_segmentations(masks[False], shape, where).labels
    found = distance_bands(objects, semantic.bands)
    found[union_mask(masks[True], shape, where) & (objects == 0)] = IGNORED
    if semantic.class_channels:
        classes = _paint_classes(record["annotations"], shape, where)[objects > 0]
        largest = classes.max(initial=1)
        if largest > semantic.class_channels:
            raise DatasetError(
                f"{where}: has the category_id {largest - 1}, but the model knows "
                f"{semantic.class_channels} classes. Set MODEL.WATERSHED.NUM_CLASSES."
            )
        found[objects > 0] += (classes - 1) * semantic.bands
    return found


def _paint_classes(annotations: Sequence[dict], shape: tuple[int, int], where: str) -> np.ndarray:
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


def check_label_maps(records: Sequence[dict], semantic: SemanticLabels, name: str) -> None:
    """Check a data set's label map files: each may be right, and all of them wrong.

    A sample of them is read, and if it holds no class all others until one does. What may be meant
    is warned about: maps without a class.

    Raises:
        DatasetError: a map that is read has labels that ``semantic`` does not know; or none has a
            class, and some have ignored pixels, as masks of 0 and 255 do.
    """
    files = [record for record in records if record.get("sem_seg_file_name")]
    if not files:
        return
    members = [semantic.members[channel] for channel in semantic.foreground_channels]
    classes = {label for labels in members for label in labels}
    ignored = semantic.ignore_value
    contents = [_labels_of(record, semantic) for record in files[:: -(-len(files) // _SAMPLE)]]
    if not any(map(classes.intersection, contents)):
        contents = []
        for record in files:
            contents.append(_labels_of(record, semantic))
            if classes & contents[-1]:
                break
    without = [labels for labels in contents if not classes & labels]
    masked = sum(ignored in labels for labels in without)
    if masked and len(without) == len(contents):
        raise DatasetError(
            f"{name}: its label maps hold only 0 and {ignored}, which is left out of training and "
            "evaluation. Save objects as 1."
        )
    if masked:
        logger.warning(
            f"{name}: {masked} of {len(contents)} label maps hold {ignored} but no class. If it "
            "stands for objects, save them as 1."
        )
    elif len(without) == len(contents):
        logger.warning(f"{name}: no label map holds one of the classes {sorted(classes)}.")


def _labels_of(record: dict, semantic: SemanticLabels) -> set[int]:
    held = set(np.unique(read_label_map(record)).tolist())
    semantic.check(torch.tensor(sorted(held)), record["sem_seg_file_name"])
    return held
