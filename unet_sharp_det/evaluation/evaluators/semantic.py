"""Overlap of a semantic model's maps with the label maps, which the U-Net papers report."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from torch import Tensor

from ...data.label_maps import check_label_maps, read_label_map
from ...errors import ConfigError, DatasetError, UserError
from ...files import write_csv, write_json
from ...masks import encode_mask
from ...modeling.semantic_labels import SemanticLabels
from ..instances.measures import FOREGROUND_MEASURES, Measure
from ..instances.pixel_counts import PixelCounts
from ..instances.results import MeasureTable
from ..record import (
    SEMANTIC_IMAGES_FILE,
    SEMANTIC_METRICS_FILE,
    SEMANTIC_PREDICTIONS_FILE,
    EvaluationOptions,
    nan_to_none,
)
from .gather import gather_on_main, write_record

_PLACE = ("image_id", "file_name", "channel")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChannelResult:
    """One foreground channel of an image; ``rle`` is None where no file is to be written."""

    image_id: int
    file_name: str
    channel: str
    counts: PixelCounts
    rle: dict | None


class SemanticEvaluator(DatasetEvaluator):
    """IoU and Dice in percent of every foreground channel of a semantic model.

    P holds the pixels that ``labels.decide`` gives to a channel, G those that the label map does;
    pixels of ``labels.ignore_value`` are in neither.
    :data:`FOREGROUND_MEASURES` defines the metrics. An image of ignored pixels alone counts as 100.
    With several foreground channels a metric is the mean over them, and ``<metric>/<channel>``
    that of each.
    """

    measures = FOREGROUND_MEASURES
    #: Columns of the file of images: of <name>_image_mean.
    ratios = ("IoU", "Dice")
    #: What a report is made of.
    predictions_file = SEMANTIC_PREDICTIONS_FILE

    def __init__(
        self,
        dataset_name: str,
        labels: SemanticLabels,
        *,
        options: EvaluationOptions | None = None,
        output_dir: str | None = None,
    ):
        """
        Args:
            dataset_name: name of a registered data set. Its metadata's ``stuff_classes``, the
                names of the labels 0, 1, ..., name the channels, with "_" for "-", which
                detectron2 does not print; without, the labels do.
            labels: the meaning of the model's channels.
            options: by which reports judge the components of the predictions as objects of the
                data set's ``json_file``. None: no ``evaluation.json`` for them.
            output_dir: folder for ``semantic_per_image.csv`` (ratios in percent),
                ``semantic_metrics.json`` (with definitions) and ``semantic_predictions.json`` (a
                COCO RLE of each image and channel). None: write nothing.

        Raises:
            DatasetError: image_ids are missing or repeated, or see :func:`check_label_maps`.
            ConfigError: two channels have the same name.
        """
        self._dataset_name = dataset_name
        self._labels = labels
        self._options = options
        self._output_dir = output_dir
        self._records = _index_records(dataset_name)
        check_label_maps(list(self._records.values()), labels, dataset_name)
        names = MetadataCatalog.get(dataset_name).get("stuff_classes") or []
        self._channels = _foreground_names(labels, names)
        self.reset()

    def reset(self) -> None:
        """Forget the images processed so far."""
        self._results: list[ChannelResult] = []

    def process(self, inputs, outputs) -> None:
        """Compare a batch of images with their label maps.

        Args:
            inputs: dataset dicts with "image_id" and "file_name".
            outputs: dicts with "sem_seg", a float tensor (C, H, W) of probabilities, C of the
                labels.

        Raises:
            DatasetError: an image is unknown or of another size than its label map, or that holds
                unknown labels.
            UserError: the model predicts logits for probabilities.
        """
        for record, output in zip(inputs, outputs, strict=True):
            probabilities = self._probabilities(output)
            truth, valid = self.read_truth(record["image_id"])
            if probabilities.shape[1:] != valid.shape:
                raise DatasetError(
                    f"Image {record['image_id']} of {self._dataset_name}: predictions have (height,"
                    f" width) {tuple(probabilities.shape[1:])}, the label map {valid.shape}."
                )
            predicted = self._labels.decide(probabilities[None])[0].cpu().numpy()
            for name, channel in self._channels.items():
                counts = PixelCounts.count(predicted[channel], truth[channel], valid)
                rle = encode_mask(predicted[channel], valid.shape) if self._output_dir else None
                place = (record["image_id"], record["file_name"], name)
                self._results.append(ChannelResult(*place, counts, rle))

    def evaluate(self) -> dict:
        """Return ``{"sem_seg": {metric: percent}}`` on the main process, {} on the others."""
        results = gather_on_main(self._results)
        if results is None:
            return {}
        results = sorted(results, key=lambda result: result.image_id)
        counts = {name: [] for name in self._channels}
        for result in results:
            counts[result.channel].append(result.counts)
        metrics = _summarize(counts, self.measures)
        definitions = {measure.name: measure.definition for measure in self.measures}
        count = len({result.image_id for result in results})
        lines = [
            f"{name} {value:.2f}: {definitions[name.partition('/')[0]]}"
            for name, value in metrics.items()
        ]
        logger.info(
            f"Semantic metrics of {self._dataset_name} in percent, {count} of its "
            f"{len(self._records)} images, P = predicted pixels, G = those of the label map, "
            "without ignored ones:\n" + "\n".join(lines)
        )
        if self._output_dir:
            content = {"metrics": nan_to_none(metrics), "definitions": definitions}
            content |= {"images": count, "channels": self._channels}
            write_json(os.path.join(self._output_dir, SEMANTIC_METRICS_FILE), content, indent=2)
            self._write_images(results)
            if self._options and MetadataCatalog.get(self._dataset_name).get("json_file"):
                write_record(
                    self._dataset_name, self.predictions_file, self._options, self._output_dir
                )
        return {"sem_seg": metrics}

    def _probabilities(self, output: dict) -> Tensor:
        probabilities = output["sem_seg"]
        low, high = float(probabilities.min()), float(probabilities.max())
        if self._labels.activation == "sigmoid" and (low < -1e-3 or high > 1 + 1e-3):
            raise UserError(
                f"'sem_seg' goes from {low:g} to {high:g}: the model returns logits. Apply "
                "MODEL.SEM_SEG_HEAD.ACTIVATION in its head at inference."
            )
        return probabilities

    def read_truth(self, image_id) -> tuple[np.ndarray, np.ndarray]:
        """Return bool (C, H, W), where each channel holds, and (H, W), the pixels that count."""
        if image_id not in self._records:
            raise DatasetError(f"The data set {self._dataset_name} has no image {image_id}.")
        record = self._records[image_id]
        label_map = torch.from_numpy(read_label_map(record).astype(np.int64))
        self._labels.check(label_map, record.get("sem_seg_file_name") or record["file_name"])
        truth, valid = self._labels.encode(label_map[None])
        return truth[0].numpy(), valid[0, 0].numpy()

    def _write_images(self, results: list[ChannelResult]) -> None:
        table = MeasureTable.of([result.counts for result in results], self.measures)
        ratios = [table.image_values(f"{name}_image_mean") for name in self.ratios]
        rows, predictions = [], []
        for result, *values in zip(results, *ratios, strict=True):
            place = {name: getattr(result, name) for name in _PLACE}
            percents = [f"{value:.4f}" for value in values]
            rows.append([*place.values(), *percents, result.counts.true, result.counts.pred])
            if result.rle:
                predictions.append({**place, "segmentation": result.rle})
        columns = (*_PLACE, *self.ratios, "gt_pixels", "pred_pixels")
        write_csv(os.path.join(self._output_dir, SEMANTIC_IMAGES_FILE), columns, rows)
        if predictions:
            write_json(os.path.join(self._output_dir, SEMANTIC_PREDICTIONS_FILE), predictions)


def _summarize(
    channels: dict[str, list[PixelCounts]], measures: Sequence[Measure]
) -> dict[str, float]:
    """Return ``{metric: percent}`` of the counts by channel, see :class:`SemanticEvaluator`."""
    summaries = [MeasureTable.of(each, measures).summary() for each in channels.values()]
    metrics = {name: float(np.mean([each[name] for each in summaries])) for name in summaries[0]}
    if len(summaries) > 1:
        for channel, values in zip(channels, summaries, strict=True):
            metrics.update({f"{name}/{channel}": value for name, value in values.items()})
    return metrics


def _index_records(dataset_name: str) -> dict:
    """Return the dataset dicts of a registered data set by their image_id."""
    records, by_id = DatasetCatalog.get(dataset_name), {}
    lacking = sum("image_id" not in record for record in records)
    if lacking:
        raise DatasetError(f"{dataset_name}: {lacking} of {len(records)} images lack 'image_id'.")
    for record in records:
        if by_id.setdefault(record["image_id"], record) is not record:
            one = record["image_id"]
            raise DatasetError(f"{dataset_name}: several images have the image_id {one}.")
    return by_id


def _foreground_names(labels: SemanticLabels, label_names) -> dict[str, int]:
    """Return the index of each foreground channel."""
    names = [name.replace("-", "_") for name in labels.names(label_names)]
    channels = {names[channel]: channel for channel in labels.foreground_channels}
    if len(channels) < len(labels.foreground_channels):
        raise ConfigError(
            f"Several semantic channels have the same name, of {names}. Tell them apart in the "
            "metadata's stuff_classes, or in MODEL.SEM_SEG_HEAD.REGIONS."
        )
    return channels
