"""Reading back what the evaluators wrote for a run: values of each image, and predicted masks."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from ...data.label_maps import read_label_map
from ...errors import UserError, look_up_option
from ...files import read_json
from ...masks import union_mask
from ...masks.instance_maps import InstanceMap
from ...modeling.semantic_labels import SemanticLabels
from ..evaluators import coco as coco_evaluation
from ..evaluators import semantic as semantic_evaluation
from ..instances import results as instance_results
from ..instances.matching import without_void
from ..record import EvaluationOptions, EvaluationRecord

METRICS = ("IoU", "Dice")


@dataclass(frozen=True)
class RunResults:
    """The files of an evaluation of one run; images go by their image_id as a string.

    Attributes:
        run: OUTPUT_DIR of the training or evaluation.
        label: what figures call the run.
        folder: where the evaluators wrote.
        is_semantic: whether the values are those of SemanticEvaluator or of InstanceEvaluator.
    """

    run: Path
    label: str
    folder: Path
    is_semantic: bool

    @classmethod
    def find(cls, run, label: str | None = None, dataset: str | None = None) -> "RunResults":
        """Find a run's evaluation, the semantic one if it has both.

        Args:
            run: OUTPUT_DIR of the training or evaluation.
            label: None: the name of that folder.
            dataset: look into ``inference/<dataset>`` first, where runs with several data sets
                in DATASETS.TEST keep their evaluations.

        Raises:
            UserError: if there is no evaluation.
        """
        run = Path(run)
        label = run.resolve().name if label is None else label
        folders = [run / "inference"]
        if dataset is not None:
            folders.insert(0, run / "inference" / dataset)
        for folder in folders:
            for module in (semantic_evaluation, instance_results):
                if (folder / module.IMAGES_FILE).is_file():
                    return cls(run, label, folder, module is semantic_evaluation)
        raise UserError(
            f"{run}: neither {semantic_evaluation.IMAGES_FILE} nor "
            f"{instance_results.IMAGES_FILE} is in {folders[-1]}. {_remedy(run)}"
        )

    @property
    def images_file(self) -> Path:
        """The CSV file of the values."""
        module = semantic_evaluation if self.is_semantic else instance_results
        return self.folder / module.IMAGES_FILE

    @property
    def predictions_file(self) -> Path:
        """The JSON file of the predicted masks."""
        if self.is_semantic:
            return self.folder / semantic_evaluation.PREDICTIONS_FILE
        return self.folder / coco_evaluation.RESULTS_FILE

    def values(self, metric: str = "IoU", channel: str | None = None) -> dict[str, float]:
        """Read a metric of each image in percent.

        Args:
            metric: of ``METRICS``.
            channel: name of a semantic channel. None: the mean over the channels.

        Raises:
            UserError: if the file is malformed, or has no such metric or channel, or no image.
        """
        look_up_option(metric, METRICS, "--metric")
        by_image = defaultdict(list)
        for row in self._rows_of(metric, channel):
            by_image[row["image_id"]].append(self._number(row, metric))
        return {image_id: float(np.mean(values)) for image_id, values in by_image.items()}

    def file_names(self) -> dict[str, str]:
        """Read the base name of each image's file; a table without ``file_name`` has none.

        Raises:
            UserError: if the file is malformed, or has no image.
        """
        rows = [row for row in self._read_rows("image_id") if row.get("file_name")]
        return {row["image_id"]: Path(row["file_name"]).name for row in rows}

    def check_same_images(self, names: dict[str, str], other: str, remedy: str) -> None:
        """Check that images of the same id are of the same base name: each split counts from 1.

        Args:
            names: the base name of each image of a data set or of another run.
            other: what the message calls that.
            remedy: what the user can do.

        Raises:
            UserError: if an image is another one there.
        """
        for image_id, name in self.file_names().items():
            if names.get(image_id, name) != name:
                raise UserError(
                    f"{self.run} was evaluated on another data set: its image {image_id} is "
                    f"{name}, in {other} it is {names[image_id]}; {remedy}"
                )

    def predictions(self, channel: str | None = None) -> dict[str, list[dict]]:
        """Read the predicted masks: COCO results by image; images may lack.

        Args:
            channel: name of a semantic channel.

        Raises:
            UserError: if the file is missing or malformed.
        """
        by_image = defaultdict(list)
        needed = ("image_id", "segmentation", "channel" if self.is_semantic else "score")
        for entry in self._read_json(self.predictions_file, list):
            try:
                image_id, _, kind = (entry[key] for key in needed)
            except (KeyError, TypeError) as error:
                raise UserError(
                    f"{self.predictions_file}: an entry is not a mask, it lacks {error}. "
                    f"{_remedy(self.run)}"
                ) from error
            if not self.is_semantic or kind == channel:
                by_image[str(image_id)].append(entry)
        return dict(by_image)

    @cached_property
    def options(self) -> EvaluationOptions:
        """What the evaluator of instances went by.

        Raises:
            UserError: if the record of the evaluation is missing or malformed.
        """
        return EvaluationRecord.read(self.folder).options

    def predicted(self, entries: list[dict], record: dict) -> np.ndarray:
        """Return what the evaluator takes for the foreground of an image.

        Args:
            entries: of :meth:`predictions`.
            record: a dataset dict.

        Returns:
            bool (H, W).

        Raises:
            UserError: a mask is malformed, or of another size than the image.
        """
        shape, where = (record["height"], record["width"]), f"{self.run}: {record['file_name']}"
        segmentations = [entry["segmentation"] for entry in entries]
        if self.is_semantic:
            return union_mask(segmentations, shape, where)
        objects = InstanceMap.from_segmentations(
            segmentations,
            shape,
            where,
            [entry["score"] for entry in entries],
            score_threshold=self.options.score_threshold,
            min_area=self.options.min_area,
            max_covered=self.options.max_covered,
        )
        _, objects = without_void(InstanceMap.empty(shape), objects, _crowd(record))
        return objects.labels > 0

    def labels(self) -> tuple[SemanticLabels, dict[str, int]]:
        """Read the labels of a semantic run, and its foreground channels' indices by name.

        Raises:
            UserError: if the file is missing or malformed.
        """
        path = self.folder / semantic_evaluation.METRICS_FILE
        content = self._read_json(path, dict)
        try:
            return SemanticLabels(**content["labels"]), dict(content["channels"])
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: has no labels ({error}). {_remedy(self.run)}") from error

    def truth(self, record: dict, channel: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return what the evaluator compares an image with.

        Args:
            record: a dataset dict.
            channel: name of a semantic channel.

        Returns:
            bool (H, W): the foreground, and the pixels that count.
        """
        if not self.is_semantic:
            return _annotated(record, crowd=0), ~_crowd(record)
        labels, channels = self.labels()
        label_map = torch.from_numpy(read_label_map(record).astype(np.int64))
        foreground, valid = labels.encode(label_map[None])
        return foreground[0, channels[channel]].numpy(), valid[0, 0].numpy()

    def _read_rows(self, *needed: str) -> list[dict]:
        with open(self.images_file, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        missing = sorted(set(needed) - set(reader.fieldnames or ()))
        if missing or not rows:
            lack = f"the columns {missing}" if missing else "rows: no image was evaluated"
            raise UserError(f"{self.images_file}: it lacks {lack}. {_remedy(self.run)}")
        return rows

    def _rows_of(self, metric: str, channel: str | None) -> list[dict]:
        rows = self._read_rows("image_id", metric, *(["channel"] if self.is_semantic else []))
        if channel is None or not self.is_semantic:
            return rows
        channels = list(dict.fromkeys(row["channel"] for row in rows))
        look_up_option(channel, channels, f"{self.images_file}: the channel")
        return [row for row in rows if row["channel"] == channel]

    def _number(self, row: dict, metric: str) -> float:
        try:
            return float(row[metric])
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{self.images_file}: {metric} of image {row['image_id']} is no number, but "
                f"{row[metric]!r}. {_remedy(self.run)}"
            ) from error

    def _read_json(self, path: Path, kind: type):
        return read_json(path, kind, _remedy(self.run))


def _annotated(record: dict, crowd: int) -> np.ndarray:
    """bool (H, W): the objects of an image, or its crowd regions."""
    segmentations = [
        annotation.get("segmentation")
        for annotation in record.get("annotations", [])
        if annotation.get("iscrowd", 0) == crowd
    ]
    return union_mask(segmentations, (record["height"], record["width"]), record["file_name"])


def _crowd(record: dict) -> np.ndarray:
    return _annotated(record, crowd=1)


def find_runs(
    runs: Sequence, labels: Sequence[str] | None = None, dataset: str | None = None
) -> list[RunResults]:
    """Find the evaluations of several runs; without labels, runs are called by their folders.

    Raises:
        UserError: if a run was not evaluated, or there are not as many labels as runs.
    """
    if labels and len(labels) != len(runs):
        raise UserError(f"--labels: {len(labels)} labels for {len(runs)} runs, give one for each.")
    names = labels or [Path(run).resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = labels or [str(run) for run in runs]
    return [RunResults.find(run, name, dataset) for run, name in zip(runs, names, strict=True)]


def values_of_runs(
    runs: Sequence[RunResults], metric: str = "IoU", channel: str | None = None
) -> list[dict[str, float]]:
    """Read :meth:`RunResults.values` of runs on the same images.

    Raises:
        UserError: if a run lacks an image that another one has, or has another one of its id.
    """
    for first, second in combinations(runs, 2):
        remedy = "give --dataset one that both were evaluated on, or evaluate them on the same."
        second.check_same_images(first.file_names(), str(first.run), remedy)
    values = [run.values(metric, channel) for run in runs]
    everything = list(dict.fromkeys(image_id for found in values for image_id in found))
    for run, found in zip(runs, values, strict=True):
        missing = [image_id for image_id in everything if image_id not in found]
        if missing:
            shown = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
            raise UserError(
                f"{run.images_file}: {len(missing)} of {len(everything)} images are missing that "
                f"other runs have: {shown}. Evaluate all runs on the same data set. "
                f"{_remedy(run.run)}"
            )
    return values


def _remedy(run: Path) -> str:
    return (
        "Evaluation writes it: python tools/train_net.py --config-file CONFIG.yaml --eval-only "
        f"MODEL.WEIGHTS {run}/model_final.pth OUTPUT_DIR {run}"
    )
