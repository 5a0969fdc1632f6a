"""Predicted objects of images from files of any tool, an instance map at a time."""

import logging
import os
import reprlib
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util

from ...data.coco_json import check_coco, first_few, is_box, is_finite, is_id
from ...data.label_files import FORMATS, find_label_maps
from ...errors import DatasetError, counted
from ...files import read_json
from ...masks import to_rles, union_mask
from ...masks.instance_maps import InstanceMap
from ..record import EvaluationOptions
from .truth import (
    Truth,
    TruthImage,
    category_names,
    index_coco,
    read_label_map_file,
    refuse_pictures,
)

_KINDS = (
    "a list of COCO results (image_id, score, segmentation), a COCO data set, the "
    "semantic_predictions.json of a semantic model, or a folder of label maps "
    f"({', '.join(FORMATS)})"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions(ABC):
    """The predicted objects of the images of a ground truth.

    Attributes:
        by_image: what is predicted, by image id.
        options: which objects count.
        where: what errors call the file.
        has_scores: whether objects have scores, by which they can be ranked.
    """

    by_image: dict
    truth: Truth
    options: EvaluationOptions
    where: str
    has_scores: bool = False

    def instance_map(self, image_id, category: int | None = None) -> InstanceMap:
        """Return the objects of an image that count, of one category or of all; DatasetError: they
        cannot be read."""
        record = self.truth.record(image_id)
        predicted = self.by_image.get(image_id)
        if category is not None:
            predicted = [each for each in predicted or () if each[1]["category_id"] == category]
        if not predicted:
            return InstanceMap.empty(record.shape)
        return self._paint(predicted, record, f"{self.where}: {record.file_name}")

    @abstractmethod
    def _paint(self, predicted, record: TruthImage, where: str) -> InstanceMap: ...


class LabelMapPredictions(Predictions):
    """Label maps: a path by image."""

    def _paint(self, predicted, record, where):
        least, dim = self.options.min_area, len(record.shape)
        labels = read_label_map_file(predicted, dim)
        return InstanceMap.from_labels(labels, str(predicted), min_area=least, dim=dim)


class SemanticPredictions(Predictions):
    """Masks of channels, by image as :class:`CocoPredictions` has them: their 4-connected
    components are the objects.

    Where masks of several channels overlap, the last channel has the pixels.
    """

    def _paint(self, predicted, record, where):
        from scipy import ndimage  # Slow to import, and seldom needed.

        labels, count = np.zeros(record.shape, np.int32), 0
        for _, entry in predicted:
            mask = union_mask([entry["segmentation"]], record.shape, where)
            parts, found = ndimage.label(mask)
            labels = np.where(parts > 0, parts + count, labels)
            count += found
        return InstanceMap.from_labels(labels, where, min_area=self.options.min_area)


class CocoPredictions(Predictions):
    """Masks in COCO's format, by image a list of (what errors call it, result or annotation).

    Of masks that overlap :class:`InstanceMap` says which has the pixels. Masks of which no pixel is
    left, such as repeated ones, are no object; for AP they are detections like others.
    """

    @property
    def has_categories(self) -> bool:
        """Whether each prediction has a category of the truth."""
        entries = (entry for each in self.by_image.values() for _, entry in each)
        return all(entry.get("category_id") in self.truth.coco.cats for entry in entries)

    def coco_results(self) -> list[dict]:
        """Return all predictions with scores, those below the threshold too, as COCO results.

        Without ``bbox`` they get the box of their mask. DatasetError: a mask is malformed.
        """
        results = []
        for image_id, record in self.truth.records.items():
            predicted = self.by_image.get(image_id, [])
            for (_, entry), rle in zip(predicted, self._rles(predicted, record), strict=True):
                result = {"image_id": image_id, "score": entry["score"], "segmentation": rle}
                result["bbox"] = entry.get("bbox") or mask_util.toBbox(rle).tolist()
                result["category_id"] = entry["category_id"] if self.truth.has_categories else 1
                results.append(result)
        return results

    def _paint(self, predicted, record, where):
        return InstanceMap.from_segmentations(
            self._rles(predicted, record),
            record.shape,
            where,
            [entry["score"] for _, entry in predicted] if self.has_scores else None,
            **self.options.counting,
        )

    def _rles(self, predicted: list[tuple], record: TruthImage) -> list[dict]:
        return to_rles(
            [entry["segmentation"] for _, entry in predicted],
            record.shape,
            lambda index: f"{predicted[index][0]} of {record.file_name}",
        )


def open_predictions(
    path,
    truth: Truth,
    options: EvaluationOptions,
    suffix: str | None = None,
    allow_missing: bool = False,
) -> Predictions:
    """Open the predictions of a tool.

    Args:
        path: a list of COCO results, of images by ``image_id`` (for a folder of label maps as truth
            the stem of the name), in which an image without an entry has no detection; a COCO data
            set, of images by the file name or else its stem, with scores if each annotation has a
            "score"; the ``semantic_predictions.json`` of :class:`SemanticEvaluator`; or a folder of
            label maps, of images by the stem.
        truth: what they are to be compared with.
        options: which objects count.
        suffix: of label maps, see :func:`find_label_maps`.
        allow_missing: take images that are missing, but for COCO results, for empty ones.

    Raises:
        DatasetError: the predictions are missing, malformed, of images that the truth does not
            have, or without some that it has.
    """
    images = _ImageFinder(truth, os.fspath(path), allow_missing)
    common = (truth, options, images.where)
    if Path(path).is_dir():
        files = find_label_maps(path, suffix, known=images.by_stem)
        ids = images.find_all({stem: images.of_stem(stem) for stem in files})
        return LabelMapPredictions({ids[stem]: files[stem] for stem in files}, *common)
    refuse_pictures(path)
    content = read_json(path, remedy=f"Give {_KINDS}.")
    if isinstance(content, dict) and "annotations" in content:
        by_image, has_scores = _read_data_set(content, images)
        return CocoPredictions(by_image, *common, has_scores)
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise DatasetError(f"{path}: holds no predictions. Give {_KINDS}.")
    if content and all("channel" in entry and "score" not in entry for entry in content):
        return SemanticPredictions(_read_semantic(content, images), *common)
    return CocoPredictions(_read_results(content, images), *common, has_scores=True)


def check_entry(entry: dict, name: str, *, with_score: bool) -> None:
    """Raise a DatasetError if a COCO result, annotation or mask, called ``name``, is malformed.

    What depends on its image is not checked.
    """
    needed = ("image_id", "score") if with_score else ("image_id",)
    lacking = [key for key in needed if not isinstance(entry, dict) or key not in entry]
    if lacking:
        raise DatasetError(f"{name} has no {', '.join(lacking)}. Give {_KINDS}.")
    name = f"{name} of image {reprlib.repr(entry['image_id'])}"
    if not is_id(entry["image_id"]):
        raise DatasetError(f"{name}: an image_id must be a whole number or a text.")
    if not entry.get("segmentation"):
        raise DatasetError(f"{name} has no segmentation. Give masks: boxes alone do not do.")
    if with_score and not is_finite(entry["score"]):
        shown = reprlib.repr(entry["score"])
        raise DatasetError(f"{name} has the score {shown}, which has no rank. Write a number.")


class _ImageFinder:
    """Finds the images of a ground truth that predictions are of."""

    def __init__(self, truth: Truth, where: str, allow_missing: bool):
        self.truth = truth
        self.where = where
        self._allow_missing = allow_missing
        self.by_stem = defaultdict(list)
        for image_id, record in truth.records.items():
            stem = Path(record.file_name).stem if truth.has_categories else image_id
            self.by_stem[stem].append(image_id)

    def of_stem(self, stem: str):
        """Return the id of the image whose file name has this stem, None if there is none."""
        ids = self.by_stem.get(stem, [None])
        if len(ids) > 1:
            names = [self.truth.records[image_id].file_name for image_id in ids]
            raise DatasetError(
                f"{self.truth.where}: {first_few(names)} have the same stem, by which predictions "
                "are paired. Rename them, or give COCO results, which are paired by image_id."
            )
        return ids[0]

    def find_files(self, names: dict) -> dict:
        """Return the image of each file: of those of the same path, as far as both say it, that of
        its id or the only one, else by stem."""
        found = {}
        for image_id, name in names.items():
            stem, records = Path(name).stem, self.truth.records
            same = [k for k in self.by_stem.get(stem, ()) if _end_alike(records[k].file_name, name)]
            same = [image_id] if image_id in same else same
            found[image_id] = same[0] if len(same) == 1 else self.of_stem(stem)
        return self.find_all(found, names)

    def find_all(self, found: dict, names: dict | None = None, *, complete: bool = True) -> dict:
        """Check and return ``{key: image_id}``, in which the id of an unknown image is None.

        ``names`` are what errors call the keys; ``complete`` demands that no image is missing.
        """
        truth, records = self.truth.where, self.truth.records
        unknown = [names[key] if names else key for key, value in found.items() if value is None]
        if unknown:
            there = [f"{key} ({each.file_name})" for key, each in records.items()]
            raise DatasetError(
                f"{self.where}: has predictions of {counted(len(unknown), 'image')} that {truth} "
                f"does not have: {first_few(unknown)}. It has {first_few(there)}; endings of label "
                "maps' names are told by --suffix and --truth-suffix."
            )
        predicted = set(found.values())
        if len(predicted) < len(found):
            raise DatasetError(f"{self.where}: several of its images are the same one of {truth}.")
        missing = [record.file_name for key, record in records.items() if key not in predicted]
        if complete and missing:
            counts, few = f"{len(missing)} of the {len(records)} images", first_few(missing)
            if not self._allow_missing:
                raise DatasetError(
                    f"{self.where}: has no prediction for {counts} of {truth}: {few}. Predict "
                    "them, or count them as empty with --allow-missing."
                )
            logger.warning(f"{self.where}: {counts} are missing, count as empty: {few}.")
        return found


def _read_results(content: list[dict], images: _ImageFinder) -> dict:
    where, records = images.where, images.truth.records
    named = [(f"{where}: result {n} (counted from 0)", entry) for n, entry in enumerate(content)]
    found = {}
    for name, entry in named:
        check_entry(entry, name, with_score=True)
        if "bbox" in entry and not is_box(entry["bbox"]):
            shown = reprlib.repr(entry["bbox"])
            raise DatasetError(f"{name} has the bbox {shown}. Write x, y, width and height.")
        _check_category(entry, name, images.truth)
        key = entry["image_id"]  # 7 is found where ids are texts.
        found[key] = next((each for each in (key, str(key)) if each in records), None)
    if not content:
        logger.warning(f"{where}: holds no detection, so every object counts as missed.")
    return _group(named, images.find_all(found, complete=False))


def _read_data_set(content: dict, images: _ImageFinder) -> tuple[dict, bool]:
    """Return the annotations by image, and whether they have scores."""
    where, truth = images.where, images.truth
    check_coco(content, where)
    annotations = [each for each in content["annotations"] if not each["iscrowd"]]
    scored = sum("score" in annotation for annotation in annotations)
    if 0 < scored < len(annotations):
        raise DatasetError(
            f"{where}: {scored} of {len(annotations)} annotations have a 'score', give all or none."
        )
    if truth.has_categories:
        ids = {name: key for key, name in category_names(truth.coco).items()}
        own = category_names(index_coco(content))
        if ids.keys() & own.values():  # Else the ids are taken to be those of the truth.
            for each in annotations:
                each["category_id"] = ids.get(own[each["category_id"]], own[each["category_id"]])
    named = [(f"{where}: the annotation with id {each['id']}", each) for each in annotations]
    for name, annotation in named:
        check_entry(annotation, name, with_score=scored > 0)
        if scored:
            _check_category(annotation, name, truth)
    ids = images.find_files({image["id"]: image["file_name"] for image in content["images"]})
    for image in content["images"]:
        found, shape = (image["height"], image["width"]), truth.record(ids[image["id"]]).shape
        if found != shape:
            raise DatasetError(
                f"{where}: {image['file_name']} has (height, width) {found}, but {shape} in "
                f"{truth.where}: is it the same data set?"
            )
    return _group(named, ids), scored > 0


def _read_semantic(content: list[dict], images: _ImageFinder) -> dict:
    """Return the masks of the channels by image, out of a semantic_predictions.json."""
    where = images.where
    named = [(f"{where}: mask {n} (counted from 0)", entry) for n, entry in enumerate(content)]
    for name, entry in named:
        check_entry(entry, name, with_score=False)
        for key in ("channel", "file_name"):
            if not isinstance(entry.get(key, ""), str):
                raise DatasetError(f"{name} has the {key} {entry[key]!r}, write a text.")
    names = {entry["image_id"]: entry.get("file_name", "") for entry in content}
    ids = images.find_files(names)
    masks = Counter((ids[entry["image_id"]], entry["channel"]) for entry in content)
    ((image_id, _), count), *_ = masks.most_common(1)
    if count > 1:
        raise DatasetError(f"{where}: repeats a channel of the image {image_id}.")
    logger.info(f"{where}: the 4-connected components of its masks count as objects.")
    return _group(named, ids)


def _check_category(entry: dict, name: str, truth: Truth) -> None:
    category_id = entry.get("category_id")
    if truth.has_categories and not (is_id(category_id) and category_id in truth.coco.cats):
        raise DatasetError(
            f"{name} has the category {reprlib.repr(category_id)}; the ground truth has "
            f"{sorted(truth.coco.cats)}. Write the ids of its categories, not class indices."
        )


def _group(named: list[tuple], ids: dict) -> dict:
    """Return the pairs of a name and an entry by the truth's image id."""
    by_image = defaultdict(list)
    for name, entry in named:
        by_image[ids[entry["image_id"]]].append((name, entry))
    return dict(by_image)


def _end_alike(*paths: str) -> bool:
    """Whether one of two paths ends with the other."""
    parts = (reversed(Path(path).parts) for path in paths)
    return all(one == other for one, other in zip(*parts, strict=False))
