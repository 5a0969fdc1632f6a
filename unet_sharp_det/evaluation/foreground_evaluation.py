"""Overlap of the union of all nuclei, which the U-Net papers report: IoU and Dice."""

import contextlib
import io
import logging
import os
from dataclasses import dataclass

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_json
from detectron2.evaluation import DatasetEvaluator
from pycocotools.coco import COCO

from unet_sharp_det.errors import ConfigError, DatasetError, UserError
from unet_sharp_det.evaluation.overlap import (
    Overlap,
    format_metrics,
    percent,
    summarize,
    write_csv,
)
from unet_sharp_det.evaluation.ranks import gather_on_main

IMAGES_FILE = "foreground_per_image.csv"
COLUMNS = ("image_id", "file_name", "IoU", "Dice", "n_gt", "n_pred")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ForegroundImage:
    """One image: the counts of its pixels, and of the instances that make them."""

    image_id: int
    file_name: str
    overlap: Overlap
    n_gt: int
    n_pred: int


class ForegroundEvaluator(DatasetEvaluator):
    """IoU and Dice in percent of the foreground, the union of all instances of all classes.

    P is the union of the predicted masks whose score is at least ``score_threshold``, G that of
    the ground truth masks, crowd regions included. ``overlap.DEFINITIONS`` has the metrics:
    ``IoU_image_mean``, ``Dice_image_mean``, ``IoU_pooled`` and ``Dice_pooled``, and each with
    ``_two_class`` before its ending, averaged over the foreground and the background. Where P and
    G are both empty the value is 100, where only one of them is 0. Unlike AP, these do not see
    whether touching nuclei are told apart.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        score_threshold: float = 0.5,
        distributed: bool = True,
        output_dir: str | None = None,
    ):
        """
        Args:
            dataset_name: name of a registered data set. If its metadata has no ``json_file``,
                the data set is converted to a COCO json in ``output_dir``.
            score_threshold: predicted instances with at least this score count.
            distributed: gather the counts of all ranks, and evaluate on the main one.
            output_dir: folder for ``foreground_per_image.csv``, which has the columns image_id,
                file_name, IoU, Dice (both in percent), n_gt and n_pred (instances that count),
                sorted by image_id. None: write nothing.

        Raises:
            ConfigError: if ``score_threshold`` is not in [0, 1].
            DatasetError: if there is no COCO json, nor a folder to convert the data set into.
        """
        if not 0.0 <= score_threshold <= 1.0:
            raise ConfigError(f"score_threshold must lie in [0, 1], not {score_threshold}.")
        self._dataset_name = dataset_name
        self._score_threshold = score_threshold
        self._distributed = distributed
        self._output_dir = output_dir
        with contextlib.redirect_stdout(io.StringIO()):
            self._ground_truth = COCO(_coco_json(dataset_name, output_dir))
        self.reset()

    def reset(self) -> None:
        """Forget the images processed so far."""
        self._images: list[ForegroundImage] = []

    def process(self, inputs, outputs) -> None:
        """Count the pixels of a batch of images.

        Args:
            inputs: dataset dicts with "image_id" and "file_name".
            outputs: dicts with "instances", whose ``pred_masks`` is a bool tensor (N, H, W) at
                the size of the ground truth, and whose ``scores`` a float tensor (N,).

        Raises:
            DatasetError: if an image is unknown, or its size differs from the ground truth's.
            UserError: if the model predicts no masks.
        """
        for record, output in zip(inputs, outputs, strict=True):
            instances = output["instances"]
            if not instances.has("pred_masks"):
                raise UserError(
                    "Foreground IoU and Dice need masks, but the model predicted none: set "
                    "MODEL.MASK_ON to True for a model with masks, or leave this evaluator out."
                )
            kept = instances.pred_masks[instances.scores >= self._score_threshold]
            predicted = kept.bool().any(dim=0).cpu().numpy()
            self._images.append(self._count(record, predicted, len(kept)))

    def evaluate(self) -> dict:
        """Return ``{"foreground": {metric: percent}}`` on the main process, {} on the others."""
        images = gather_on_main(self._images, self._distributed)
        if images is None:
            return {}
        images = sorted(images, key=lambda image: image.image_id)
        if self._output_dir:
            _write_images(os.path.join(self._output_dir, IMAGES_FILE), images)
        results = summarize([image.overlap for image in images])
        self._log(results, len(images))
        return {"foreground": results}

    def _count(self, record: dict, predicted: np.ndarray, n_pred: int) -> ForegroundImage:
        image_id = record["image_id"]
        if image_id not in self._ground_truth.imgs:
            raise DatasetError(f"The ground truth of {self._dataset_name} has no image {image_id}.")
        annotations = self._ground_truth.imgToAnns[image_id]
        image = self._ground_truth.imgs[image_id]
        if predicted.shape != (image["height"], image["width"]):
            raise DatasetError(
                f"Image {image_id} of {self._dataset_name}: predictions have (height, width) "
                f"{predicted.shape}, the ground truth ({image['height']}, {image['width']})."
            )
        truth = self._foreground(annotations, predicted.shape)
        return ForegroundImage(
            image_id=image_id,
            file_name=record["file_name"],
            overlap=Overlap.count(predicted, truth),
            n_gt=len(annotations),
            n_pred=n_pred,
        )

    def _foreground(self, annotations: list[dict], shape: tuple[int, int]) -> np.ndarray:
        if not annotations:
            return np.zeros(shape, dtype=bool)
        rles = [self._ground_truth.annToRLE(annotation) for annotation in annotations]
        return mask_util.decode(mask_util.merge(rles)).astype(bool)

    def _log(self, results: dict, image_count: int) -> None:
        logger.info(
            f"Foreground metrics of {self._dataset_name} in percent, {image_count} images, "
            f"P = union of the masks scored at least {self._score_threshold:g}, G = of the ground "
            f"truth:\n{format_metrics(results)}"
        )


def _coco_json(dataset_name: str, output_dir: str | None) -> str:
    """Return the path of the data set's COCO json, converting the data set if it has none."""
    metadata = MetadataCatalog.get(dataset_name)
    if metadata.get("json_file") is None:
        if output_dir is None:
            raise DatasetError(
                f"The data set {dataset_name} has no json_file in its metadata: give an output_dir "
                "to convert it into."
            )
        path = os.path.join(output_dir, f"{dataset_name}_coco_format.json")
        convert_to_coco_json(dataset_name, path, allow_cached=False)
        metadata.json_file = path
    return metadata.json_file


def _write_images(path: str, images: list[ForegroundImage]) -> None:
    rows = []
    for image in images:
        iou, dice = percent(image.overlap.iou), percent(image.overlap.dice)
        rows.append([image.image_id, image.file_name, iou, dice, image.n_gt, image.n_pred])
    write_csv(path, COLUMNS, rows)
