"""Predicted objects of images from files of any tool, an instance map at a time."""

import logging
import os
import reprlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util

from ...data.coco_json import check_coco, is_box, is_finite, is_id
from ...errors import DatasetError, UserError
from ...files import read_json
from ...masks import to_rles
from ...masks.instance_maps import InstanceMap
from ..record import EvaluationOptions
from .truth import FORMATS, ImageRecord, Truth, find_label_maps, read_labels, refuse_pictures

_KINDS = (
    "a list of COCO results (image_id, score, segmentation), a COCO data set, the "
    "semantic_predictions.json of a semantic model, or a folder of label maps "
    f"({', '.join(FORMATS)})"
)

logger = logging.getLogger(__name__)


class Predictions(ABC):
    """The predicted objects of the images of a ground truth.

    Attributes:
        has_scores: whether objects have scores, by which they can be ranked.
    """

    has_scores = False

    def __init__(self, by_image: dict, truth: Truth, options: EvaluationOptions, where: str):
        """``by_image`` is what is predicted by image id; ``where`` is what errors call the file."""
        self._by_image = by_image
        self._truth = truth
        self._options = options
        self._where = where

    def instance_map(self, image_id) -> InstanceMap:
        """Return the objects of an image that count; DatasetError: they cannot be read."""
        record = self._truth.record(image_id)
        if image_id not in self._by_image:
            return InstanceMap.empty(record.shape)
        return self._paint(self._by_image[image_id], record, f"{self._where}: {record.file_name}")

    def coco_results(self) -> list[dict]:
        """Return all predictions, those below the threshold too, as COCO results.

        Raises:
            UserError: there are no scores.
            DatasetError: a mask is malformed.
        """
        raise UserError("Predictions without scores have no ranking, which AP and AR are made of.")

    @abstractmethod
    def _paint(self, predicted, record: ImageRecord, where: str) -> InstanceMap: ...


class LabelMapPredictions(Predictions):
    """A folder of label maps: a path by image."""

    def _paint(self, predicted, record, where):
        labels = read_labels(predicted)
        return InstanceMap.from_labels(labels, str(predicted), min_area=self._options.min_area)


class SemanticPredictions(Predictions):
    """Masks without objects, of each channel one: their 4-connected components are the objects.

    Where masks of several channels overlap, the last channel has the pixels.
    """

    def _paint(self, predicted, record, where):
        from scipy import ndimage  # Slow to import, and seldom needed.

        labels, count = np.zeros(record.shape, np.int32), 0
        for segmentation in predicted:
            mask = InstanceMap.from_segmentations([segmentation], record.shape, where).labels
            parts, found = ndimage.label(mask)
            labels = np.where(parts > 0, parts + count, labels)
            count += found
        return InstanceMap.from_labels(labels, where, min_area=self._options.min_area)


class CocoPredictions(Predictions):
    """Masks in COCO's format, by image a list of (what errors call it, result or annotation).

    Of masks that overlap, the highest score has the pixels; of equal scores the first one, without
    scores the last one. Masks of which no pixel is left, such as repeated ones, are no object; for
    AP they are detections like others.
    """

    def __init__(self, by_image: dict, truth, options, where: str, *, has_scores: bool):
        super().__init__(by_image, truth, options, where)
        self.has_scores = has_scores

    def coco_results(self) -> list[dict]:
        """Return all predictions; without ``bbox`` they get the box of their mask."""
        if not self.has_scores:
            return super().coco_results()
        results = []
        for image_id, record in self._truth.records.items():
            predicted = self._by_image.get(image_id, [])
            for (_, entry), rle in zip(predicted, self._rles(predicted, record), strict=True):
                results.append(
                    {
                        "image_id": image_id,
                        "score": entry["score"],
                        "bbox": entry["bbox"]
                        if "bbox" in entry
                        else mask_util.toBbox(rle).tolist(),
                        "category_id": entry["category_id"] if self._truth.has_categories else 1,
                        "segmentation": rle,
                    }
                )
        return results

    def _paint(self, predicted, record, where):
        return InstanceMap.from_segmentations(
            self._rles(predicted, record),
            record.shape,
            where,
            [entry["score"] for _, entry in predicted] if self.has_scores else None,
            **self._options.counting,
        )

    def _rles(self, predicted: list[tuple], record: ImageRecord) -> list[dict]:
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

    Images are those of the ground truth with the same ``image_id`` (COCO results; for a folder
    of label maps as truth the stem of the name), the same file name or else its stem (COCO data
    sets), or the stem (label maps).

    Args:
        path: a list of COCO results, in which an image without an entry has no detection; a COCO
            data set, whose annotations are predictions, with scores if each has a "score"; the
            ``semantic_predictions.json`` of :class:`SemanticEvaluator`; or a folder of label maps.
        truth: what they are to be compared with.
        options: the least score and area of objects that count.
        suffix: of label maps, see :func:`find_label_maps`.
        allow_missing: take images that are missing, but for COCO results, for empty ones.

    Raises:
        DatasetError: the predictions are missing, malformed, of images that the truth does not
            have, or without some that it has.
    """
    where, images = os.fspath(path), _ImageFinder(truth, os.fspath(path), allow_missing)
    if Path(path).is_dir():
        files = find_label_maps(path, suffix, known=images.stems)
        ids = images.find_all({stem: images.by_stem(stem) for stem in files})
        by_image = {ids[stem]: files[stem] for stem in files}
        return LabelMapPredictions(by_image, truth, options, where)
    refuse_pictures(path)
    content = read_json(path, remedy=f"Give {_KINDS}.")
    if isinstance(content, dict) and "annotations" in content:
        return _open_data_set(content, images, truth, options, where)
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise DatasetError(f"{where}: holds no predictions. Give {_KINDS}.")
    if content and all("channel" in entry and "score" not in entry for entry in content):
        return SemanticPredictions(_masks_of(content, images, where), truth, options, where)
    return _open_results(content, images, truth, options, where)


def check_entry(entry: dict, name: str, *, with_score: bool) -> None:
    """Check a COCO result, annotation or mask, but for what depends on its image.

    Args:
        entry: as JSON holds it.
        name: what the errors call it.
        with_score: whether it needs a score.

    Raises:
        DatasetError: a value is missing or of another type.
    """
    needed = {"image_id", *(["score"] if with_score else [])}
    lacking = needed - set(entry) if isinstance(entry, dict) else needed
    if lacking:
        raise DatasetError(f"{name} has no {', '.join(sorted(lacking))}. Give {_KINDS}.")
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
        self._truth = truth
        self._where = where
        self._allow_missing = allow_missing
        self._by_stem = defaultdict(list)
        for image_id, record in truth.records.items():
            stem = Path(record.file_name).stem if truth.has_categories else image_id
            self._by_stem[stem].append(image_id)

    @property
    def stems(self) -> Iterable[str]:
        return self._by_stem.keys()

    def by_id(self, image_id):
        """Return the image of an id, None if there is none; 7 is found where ids are texts."""
        return next((i for i in (image_id, str(image_id)) if i in self._truth.records), None)

    def by_file(self, file_name: str, image_id):
        """Return the image of a file: that of the id if its name is this, else by the stem."""
        record = self._truth.records.get(image_id)
        if record and Path(record.file_name).name == Path(file_name).name:
            return image_id
        return self.by_stem(Path(file_name).stem)

    def by_stem(self, stem: str):
        """Return the image whose file name has this stem, None if there is none."""
        ids = self._by_stem.get(stem, [None])
        if len(ids) > 1:
            names = [self._truth.records[image_id].file_name for image_id in ids]
            raise DatasetError(
                f"{self._truth.where}: {_some(names)} have the same stem, by which predictions are "
                "paired. Rename them, or give COCO results, which are paired by image_id."
            )
        return ids[0]

    def find_all(self, found: dict, names: dict | None = None, *, complete: bool = True) -> dict:
        """Check and return ``{key: image_id}``, in which the id of an unknown image is None.

        ``names`` are what errors call the keys; ``complete`` demands that no image is missing.
        """
        truth, records = self._truth.where, self._truth.records
        unknown = [names[key] if names else key for key, value in found.items() if value is None]
        if unknown:
            there = [f"{key} ({each.file_name})" for key, each in records.items()]
            raise DatasetError(
                f"{self._where}: has predictions of {len(unknown)} images that {truth} does not "
                f"have: {_some(unknown)}. It has {_some(there)}; endings of label maps' names are "
                "told by --suffix and --truth-suffix."
            )
        predicted = set(found.values())
        if len(predicted) < len(found):
            raise DatasetError(f"{self._where}: several of its images are the same one of {truth}.")
        missing = [record.file_name for key, record in records.items() if key not in predicted]
        if complete and missing:
            self._tell_missing(missing)
        return found

    def _tell_missing(self, missing: list[str]) -> None:
        counts = f"{len(missing)} of the {len(self._truth.records)} images"
        if not self._allow_missing:
            raise DatasetError(
                f"{self._where}: has no prediction for {counts} of {self._truth.where}: "
                f"{_some(missing)}. Predict them, or count them as empty with --allow-missing."
            )
        logger.warning(f"{self._where}: {counts} are missing and count as empty: {_some(missing)}.")


def _open_results(content: list[dict], images, truth, options, where: str) -> CocoPredictions:
    named = [
        (f"{where}: result {number} (counted from 0)", entry)
        for number, entry in enumerate(content)
    ]
    for name, entry in named:
        check_entry(entry, name, with_score=True)
        if "bbox" in entry and not is_box(entry["bbox"]):
            shown = reprlib.repr(entry["bbox"])
            raise DatasetError(f"{name} has the bbox {shown}. Write x, y, width and height.")
        _check_category(entry, name, truth)
    if not content:
        logger.warning(f"{where}: holds no detection, so every object counts as missed.")
    found = {entry["image_id"]: images.by_id(entry["image_id"]) for entry in content}
    ids = images.find_all(found, complete=False)
    return CocoPredictions(_group(named, ids), truth, options, where, has_scores=True)


def _open_data_set(content: dict, images, truth, options, where: str) -> CocoPredictions:
    check_coco(content, where)
    annotations = [each for each in content["annotations"] if not each["iscrowd"]]
    scored = sum("score" in annotation for annotation in annotations)
    if 0 < scored < len(annotations):
        raise DatasetError(
            f"{where}: {scored} of {len(annotations)} annotations have a 'score', give all or none."
        )
    named = [(f"{where}: the annotation with id {each['id']}", each) for each in annotations]
    for name, annotation in named:
        check_entry(annotation, name, with_score=scored > 0)
        if scored:
            _check_category(annotation, name, truth)
    names = {image["id"]: image["file_name"] for image in content["images"]}
    ids = images.find_all({key: images.by_file(name, key) for key, name in names.items()}, names)
    for image in content["images"]:
        found, shape = (image["height"], image["width"]), truth.record(ids[image["id"]]).shape
        if found != shape:
            raise DatasetError(
                f"{where}: {image['file_name']} has (height, width) {found}, but {shape} in "
                f"{truth.where}: is it the same data set?"
            )
    return CocoPredictions(_group(named, ids), truth, options, where, has_scores=scored > 0)


def _masks_of(content: list[dict], images, where: str) -> dict:
    """Return the masks of each channel by image id, out of a semantic_predictions.json."""
    for number, entry in enumerate(content):
        name = f"{where}: mask {number} (counted from 0)"
        check_entry(entry, name, with_score=False)
        for key in ("channel", "file_name"):
            if not isinstance(entry.get(key, ""), str):
                raise DatasetError(f"{name} has the {key} {entry[key]!r}, write a text.")
    names = {entry["image_id"]: entry.get("file_name", "") for entry in content}
    ids = images.find_all({key: images.by_file(name, key) for key, name in names.items()}, names)
    masks = defaultdict(dict)
    for entry in content:
        image_id, channel = ids[entry["image_id"]], entry["channel"]
        if channel in masks[image_id]:
            raise DatasetError(f"{where}: repeats a channel of the image {image_id}.")
        masks[image_id][channel] = entry["segmentation"]
    logger.info(f"{where}: the 4-connected components of its masks count as objects.")
    return {image_id: list(channels.values()) for image_id, channels in masks.items()}


def _check_category(entry: dict, name: str, truth: Truth) -> None:
    if not truth.has_categories:
        return
    if "category_id" not in entry:
        raise DatasetError(f"{name} has no category_id, which COCO's AP needs.")
    category_id = entry["category_id"]
    if not is_id(category_id) or category_id not in truth.coco.cats:
        raise DatasetError(
            f"{name} has the category {reprlib.repr(category_id)}; the ground truth has "
            f"{sorted(truth.coco.cats)}. Write the ids of its categories, not class indices."
        )


def _group(named: list[tuple], ids: dict) -> dict:
    """Return pairs of a name and an entry by the truth's image id."""
    by_image = defaultdict(list)
    for name, entry in named:
        by_image[ids[entry["image_id"]]].append((name, entry))
    return dict(by_image)


def _some(names: Iterable) -> str:
    names = list(names)
    return ", ".join(map(str, names[:3])) + (" ..." if len(names) > 3 else "")
