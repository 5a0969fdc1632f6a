"""Predicted objects of images, an instance map at a time, whatever they are stored as."""

from abc import ABC, abstractmethod

import numpy as np
import pycocotools.mask as mask_util
from scipy import ndimage

from ...errors import DatasetError, UserError
from ...masks import to_rles
from ...masks.instance_maps import InstanceMap
from ..coco.results import find_category_fault
from ..coco.truth import Truth
from ..record import EvaluationOptions
from .label_folders import read_labels


class Predictions(ABC):
    """The predicted objects of the images of a ground truth.

    Attributes:
        where: the file or folder that they are of, which the errors name.
        has_scores: whether objects have scores, by which they can be ranked.
    """

    where: str
    has_scores: bool

    @abstractmethod
    def instance_map(self, image_id) -> InstanceMap:
        """Return the objects of an image that count.

        Raises:
            DatasetError: they cannot be read, or are not of the image's size.
        """

    def coco_results(self) -> list[dict]:
        """Return all predictions, those below the threshold too, as COCO results.

        Raises:
            UserError: there are no scores.
            DatasetError: a mask is malformed, or a category is none of the ground truth's.
        """
        raise UserError("Predictions without scores have no ranking, which AP and AR are made of.")


class LabelMapPredictions(Predictions):
    """A folder of label maps."""

    has_scores = False

    def __init__(self, files: dict, truth: Truth, options: EvaluationOptions, where: str):
        """
        Args:
            files: path of the label map by image id; images without one have no object.
            truth: of the images.
            options: of them ``min_area``.
            where: see above.
        """
        self.where = where
        self._files = files
        self._truth = truth
        self._options = options

    def instance_map(self, image_id) -> InstanceMap:
        """Read the label map of an image."""
        if image_id not in self._files:
            return InstanceMap.empty(self._truth.record(image_id).shape)
        path, min_area = self._files[image_id], self._options.min_area
        return InstanceMap.from_labels(read_labels(path), str(path), min_area=min_area)


class SemanticPredictions(Predictions):
    """Masks without objects: the 4-connected components of each are the objects.

    Where masks of several channels overlap, the last channel has the pixels.
    """

    has_scores = False

    def __init__(self, masks: dict, truth: Truth, options: EvaluationOptions, where: str):
        """
        Args:
            masks: lists of segmentations, one per channel, by image id.
            truth: of the images.
            options: of them ``min_area``.
            where: see above.
        """
        self._masks = masks
        self._truth = truth
        self._options = options
        self.where = where

    def instance_map(self, image_id) -> InstanceMap:
        """Part the masks of an image into components."""
        record = self._truth.record(image_id)
        where = f"{self.where}: {record.file_name}"
        labels, count = np.zeros(record.shape, np.int32), 0
        for segmentation in self._masks.get(image_id, []):
            mask = InstanceMap.from_segmentations([segmentation], record.shape, where).labels
            parts, found = ndimage.label(mask)
            labels = np.where(parts > 0, parts + count, labels)
            count += found
        return InstanceMap.from_labels(labels, where, min_area=self._options.min_area)


class CocoPredictions(Predictions):
    """Masks in COCO's format; of those that overlap, the highest score has the pixels.

    Of equal scores the first mask has them, without scores the last one. Masks of which no pixel
    is left, such as repeated ones, are no object; for AP they are detections like others.
    """

    def __init__(
        self,
        by_image: dict,
        truth: Truth,
        options: EvaluationOptions,
        where: str,
        *,
        has_scores: bool,
    ):
        """
        Args:
            by_image: lists of (name, entry) by image id: COCO results or annotations, and what the
                errors call each.
            truth: of the images.
            options: of them ``score_threshold``, ``min_area`` and ``max_covered``.
            where: see above.
            has_scores: whether each has a score, a finite number.
        """
        self.has_scores = has_scores
        self._by_image = by_image
        self._truth = truth
        self._options = options
        self.where = where

    def instance_map(self, image_id) -> InstanceMap:
        """Paint the masks of an image that have the least score."""
        record, entries = self._truth.record(image_id), self._by_image.get(image_id, [])
        return InstanceMap.from_segmentations(
            self._rles(image_id),
            record.shape,
            self._name(image_id),
            [entry["score"] for _, entry in entries] if self.has_scores else None,
            score_threshold=self._options.score_threshold,
            min_area=self._options.min_area,
            max_covered=self._options.max_covered,
        )

    def coco_results(self) -> list[dict]:
        """Return all predictions; without ``bbox`` they get the box of their mask."""
        if not self.has_scores:
            return super().coco_results()
        results = []
        for image_id in self._truth.records:
            rles = self._rles(image_id)
            for (name, entry), rle in zip(self._by_image.get(image_id, []), rles, strict=True):
                box = entry["bbox"] if "bbox" in entry else mask_util.toBbox(rle).tolist()
                result = {"image_id": image_id, "score": entry["score"], "bbox": box}
                if not self._truth.has_categories:
                    result["category_id"] = 1
                else:
                    result["category_id"] = self._category(name, entry)
                results.append({**result, "segmentation": rle})
        return results

    def _category(self, name: str, entry: dict) -> int | str:
        if "category_id" not in entry:
            raise DatasetError(f"{name} has no category_id, which COCO's AP needs.")
        fault = find_category_fault(self._truth.coco, entry["category_id"])
        if fault:
            raise DatasetError(f"{name} {fault}")
        return entry["category_id"]

    def _rles(self, image_id) -> list[dict]:
        record, entries = self._truth.record(image_id), self._by_image.get(image_id, [])
        return to_rles(
            [entry["segmentation"] for _, entry in entries],
            record.shape,
            lambda index: f"{entries[index][0]} of {record.file_name}",
        )

    def _name(self, image_id) -> str:
        return f"{self.where}: {self._truth.record(image_id).file_name}"
