"""What an evaluation found, computed from the files that its record names, whenever it was made."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tqdm import tqdm

from ..addresses import local_path
from ..errors import UserError, look_up_option
from ..files import read_json
from .coco.ap import TASKS, CocoResult, coco_average_precision
from .instances.overlap import InstanceOverlap
from .instances.results import InstanceResults
from .readers.predictions import CocoPredictions, Predictions, open_predictions
from .readers.truth import Truth, TruthImage, open_truth
from .record import INSTANCE_METRICS_FILE, RECORD_FILE, EvaluationOptions, EvaluationRecord

_COUNTS = ("objects", "predicted_objects")
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Evaluation:
    """Truth and predictions in files, and what their comparison gives.

    Attributes:
        record: the files and options.
        truth, predictions: the opened files.
        results: the measures of all images, in the order of their image_id.
        coco: COCO's AP of the same images by task, "segm" and "bbox"; empty for predictions
            without scores.
    """

    record: EvaluationRecord
    truth: Truth
    predictions: Predictions
    results: InstanceResults
    coco: dict[str, CocoResult]

    @classmethod
    def of(
        cls, record: EvaluationRecord, ap_options: EvaluationOptions | None = None
    ) -> "Evaluation":
        """Compare the files of a record, for COCO's AP by ``ap_options`` if given.

        Raises:
            UserError: a file or folder is missing, malformed, or does not fit another one.
        """
        options = record.options
        truth = open_truth(record.truth, record.truth_suffix)
        predictions = open_predictions(
            record.predictions, truth, options, record.suffix, record.allow_missing
        )
        results = InstanceResults(match_images(truth, predictions, options))
        coco = {}
        if predictions.has_scores:
            coco = average_precision(truth, predictions, ap_options or options)
        return cls(record, truth, predictions, results, coco)

    @classmethod
    def repeat(cls, folder, ap_options: EvaluationOptions | None = None) -> "Evaluation":
        """Repeat the evaluation that left its record in a folder, see :meth:`of`.

        Raises:
            UserError: there is no record, a file of it is missing or malformed, or does not give
                the numbers that the evaluation had.
        """
        record = EvaluationRecord.read(folder)
        for what, path in (("ground truth", record.truth), ("predictions", record.predictions)):
            if not local_path(path).exists():
                raise UserError(
                    f"{Path(folder) / RECORD_FILE} names the {what} {path}, which is not there. "
                    f"Put it back, or evaluate again. {evaluate_again(folder)}"
                )
        evaluation = cls.of(record, ap_options)
        evaluation._check_unchanged(Path(folder))
        return evaluation

    @cached_property
    def images(self) -> list[TruthImage]:
        """The images, in the order of ``results``."""
        return [self.truth.records[overlap.image_id] for overlap in self.results.overlaps]

    def _check_unchanged(self, folder: Path) -> None:
        """Check that the files give the numbers that stand in the folder, if any do."""
        path, remedy = folder / INSTANCE_METRICS_FILE, evaluate_again(folder)
        if not path.is_file():
            return
        content = read_json(path, dict, remedy)
        now = dict(zip(_COUNTS, self.results.object_counts, strict=True)) | self.results.values
        try:
            before = {name: content[name] for name in _COUNTS}
            for values in content["results"].values():
                before.update(values)
            for name, was in before.items():
                value = now.get(name, math.nan)
                if was is not None and abs(was - value) > _TOLERANCE:  # False for NaN.
                    raise UserError(
                        f"{path} has {name} {was:g}, but its files now give {value:g}: they "
                        f"changed since the evaluation, or this package did. {remedy}"
                    )
        except (KeyError, AttributeError, TypeError, OverflowError) as error:
            raise UserError(f"{path}: is malformed ({error}). {remedy}") from error


def find_evaluation(run, dataset: str | None = None) -> Path:
    """Return the folder of a run's evaluation, of several that of a data set.

    Args:
        run: OUTPUT_DIR of a training or evaluation, or a folder of ``evaluate_files``.

    Raises:
        UserError: there is none, none of that data set, or several to choose from.
    """
    run, inference = Path(run), Path(run) / "inference"
    folders = [run, inference, *sorted(inference.glob("*/"))]
    records = {f: EvaluationRecord.read(f) for f in folders if (f / RECORD_FILE).is_file()}
    if not records:
        EvaluationRecord.read(inference if inference.is_dir() else run)
    names = sorted({record.dataset for record in records.values()})
    if dataset is not None:
        look_up_option(dataset, names, f"--dataset: the data set that {run} was evaluated on")
    elif len(names) > 1:
        raise UserError(
            f"{run} was evaluated on several data sets: choose one by --dataset. "
            f"Available: {', '.join(names)}."
        )
    return next(f for f, record in records.items() if dataset in (None, record.dataset))


def match_images(
    truth: Truth, predictions: Predictions, options: EvaluationOptions
) -> list[InstanceOverlap]:
    """Match the objects of each image, in the order of ``truth.records``."""
    return [
        truth.overlap(image_id, predictions.instance_map(image_id), options.boundary_tolerance)
        for image_id in tqdm(truth.records, "matching", unit="image", delay=3, disable=None)
    ]


def average_precision(
    truth: Truth, predictions: CocoPredictions, options: EvaluationOptions
) -> dict[str, CocoResult]:
    """Compute COCO's AP and AR by task, of predictions with scores."""
    results = predictions.coco_results()
    return {task: coco_average_precision(truth.coco, results, task, options) for task in TASKS}


def evaluate_again(folder) -> str:
    """Say how an evaluation is made, in which something is wrong."""
    return (
        "For a training: unet-sharp-det train --config-file CONFIG.yaml --eval-only MODEL.WEIGHTS "
        "model_final.pth OUTPUT_DIR DIR; for files: unet-sharp-det evaluate --predictions P "
        f"--truth T --images I --output {folder}"
    )
