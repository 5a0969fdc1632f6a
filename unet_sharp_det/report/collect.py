"""What a report is made of: the evaluations of runs, repeated from their files."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import DatasetError, UserError, look_up_option
from ..evaluation.coco.ap import CocoResult
from ..evaluation.coco.truth import ImageRecord, Truth
from ..evaluation.evaluate_files import average_precision
from ..evaluation.instances.results import METRICS_FILE, InstanceResults
from ..evaluation.readers.prediction_files import match_images, open_predictions, open_truth
from ..evaluation.readers.predictions import Predictions
from ..evaluation.record import RECORD_FILE, EvaluationOptions, EvaluationRecord
from ..images import read_image
from .looks import guess_look
from .training import Training

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class RunReport:
    """One run.

    Attributes:
        label: what the report calls it.
        folder: of the evaluation.
        record: its files and options.
        truth, predictions: what ``prediction_files`` opened.
        results: the measures of all images, in the order of their image_id.
        coco: COCO's AP by task, "segm" and "bbox"; empty for predictions without scores. Its
            images are in the order of ``coco_rows``.
        training: None for predictions of another tool.
    """

    label: str
    folder: Path
    record: EvaluationRecord
    truth: Truth
    predictions: Predictions
    results: InstanceResults
    coco: dict[str, CocoResult]
    training: Training | None

    @classmethod
    def read(
        cls,
        run,
        label: str,
        dataset: str | None = None,
        ap_options: EvaluationOptions | None = None,
    ) -> "RunReport":
        """Find the evaluation of a run and repeat it.

        Args:
            run: OUTPUT_DIR of a training or evaluation, or a folder of tools/evaluate.py.
            label: see above.
            dataset: of several evaluated ones, that one.
            ap_options: of COCO's AP; None: those of the evaluation.

        Raises:
            UserError: there is no evaluation, a file of it is missing or malformed, or does not
                give the numbers that the evaluation had.
        """
        folder, record = find_evaluation(run, dataset)
        _check_files(folder, record)
        truth = open_truth(record.truth, record.truth_suffix)
        predictions = open_predictions(
            record.predictions, truth, record.options, record.suffix, record.allow_missing
        )
        results = InstanceResults(match_images(truth, predictions, record.options))
        _check_unchanged(folder, record, results)
        is_training, ap_options = folder != Path(run), ap_options or record.options
        return cls(
            label,
            folder,
            record,
            truth,
            predictions,
            results,
            average_precision(truth, predictions, ap_options) if predictions.has_scores else {},
            Training.read(run, record.dataset) if is_training else None,
        )

    @cached_property
    def images(self) -> list[ImageRecord]:
        """The images, in the order of ``results``."""
        return [self.truth.records[overlap.image_id] for overlap in self.results.overlaps]

    @cached_property
    def coco_rows(self) -> np.ndarray:
        """integers (N,): the place of each image of ``results`` among those of ``coco``."""
        places = {image_id: place for place, image_id in enumerate(self.truth.records)}
        return np.array([places[overlap.image_id] for overlap in self.results.overlaps], dtype=int)

    @property
    def measures(self) -> list:
        """The columns of all tables."""
        return [measure for table in self.results.tables.values() for measure in table.measures]

    def image_values(self, name: str) -> np.ndarray:
        """Return a measure's value of each image (N,) in its unit; NaN where it has none."""
        tables = self.results.tables.values()
        named = [t for t in tables if name in (measure.name for measure in t.measures)]
        return named[0].image_values(name)

    def picture(self, row: int) -> np.ndarray | None:
        """Read the image of a row, uint8 (H, W, 3) in RGB; None if its file is not there.

        Raises:
            DatasetError: it cannot be read, or is not of the size of the ground truth.
        """
        folder, image = self.record.images, self.images[row]
        path = folder and image.find_picture(folder)
        if not path:
            return None
        picture = read_image(path, "RGB")
        if picture.shape[:2] != tuple(image.shape):
            raise DatasetError(
                f"{path}: has (height, width) {picture.shape[:2]}, the ground truth "
                f"{tuple(image.shape)}. Evaluate with its own images. {_remedy(self.folder)}"
            )
        return picture


def collect_runs(
    runs: Sequence, labels: Sequence[str] | None = None, dataset: str | None = None
) -> list[RunReport]:
    """Repeat the evaluations of runs on the same images.

    Without labels, runs are called by their folders. COCO's AP is of the first run's options for
    all, for limits of detections and bins of area that differ cannot be compared.

    Raises:
        UserError: a run cannot be read, the runs are not of the same images and objects, or there
            are not as many labels as runs, or equal ones, or a run is given twice without labels.
    """
    if labels and len(labels) != len(runs):
        raise UserError(f"--labels: {len(labels)} labels for {len(runs)} runs, give one for each.")
    names = list(labels or [Path(run).resolve().name for run in runs])
    if len(set(names)) < len(names):
        if labels:
            raise UserError(f"--labels: {', '.join(names)} are not all different.")
        names = _different_paths(runs)
    first = RunReport.read(runs[0], names[0], dataset)
    others = [
        RunReport.read(run, name, dataset, first.record.options)
        for run, name in zip(runs[1:], names[1:], strict=True)
    ]
    for other in others:
        _check_same_images(first, other)
    return [first, *others]


def find_evaluation(run, dataset: str | None = None) -> tuple[Path, EvaluationRecord]:
    """Return the folder of a run's evaluation, and its record.

    Raises:
        UserError: there is none, none of that data set, or several to choose from.
    """
    run, inference = Path(run), Path(run) / "inference"
    folders = [run, inference, *sorted(inference.glob("*/"))]
    records = [(f, EvaluationRecord.read(f)) for f in folders if (f / RECORD_FILE).is_file()]
    if not records:
        EvaluationRecord.read(inference if inference.is_dir() else run)
    names = sorted({record.dataset for _, record in records})
    if dataset is not None:
        look_up_option(dataset, names, f"--dataset: the data set that {run} was evaluated on")
    elif len(names) > 1:
        raise UserError(
            f"{run} was evaluated on several data sets: choose one by --dataset. "
            f"Available: {', '.join(names)}."
        )
    return next(pair for pair in records if dataset in (None, pair[1].dataset))


def find_picture(runs: Sequence[RunReport], row: int) -> np.ndarray | None:
    """Return ``RunReport.picture`` of the first run that has one."""
    return next((p for run in runs if (p := run.picture(row)) is not None), None)


def looks_of(runs: Sequence[RunReport]) -> list[str | None]:
    """Return the look of each image, from the first ground truth, else guessed from the picture."""
    looks = []
    for row, image in enumerate(runs[0].images):
        look = image.look
        if look is None:
            picture = find_picture(runs, row)
            look = None if picture is None else guess_look(picture)
        looks.append(look)
    return looks


def _different_paths(runs: Sequence) -> list[str]:
    folders = [Path(run).resolve() for run in runs]
    for run, folder in zip(runs, folders, strict=True):
        if folders.count(folder) > 1:
            raise UserError(
                f"The run {run} is given twice. Give each run once, or --labels to tell them apart."
            )
    return [str(run) for run in runs]


def _check_files(folder: Path, record: EvaluationRecord) -> None:
    for what, path in (("ground truth", record.truth), ("predictions", record.predictions)):
        if not Path(path).exists():
            raise UserError(
                f"{folder / RECORD_FILE} names the {what} {path}, which is not there. Put it back, "
                f"or evaluate again. {_remedy(folder)}"
            )


def _check_unchanged(folder: Path, record: EvaluationRecord, results: InstanceResults) -> None:
    path = folder / METRICS_FILE
    if not path.is_file():
        return
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        before = {
            **{name: _number(name, written[name]) for name in ("objects", "predicted_objects")},
            **{
                name: _number(name, value)
                for task in written["results"].values()
                for name, value in task.items()
            },
        }
    except (ValueError, KeyError, AttributeError, TypeError, OverflowError) as error:
        raise UserError(f"{path}: is malformed ({error}). {_remedy(folder)}") from error
    now = dict(zip(("objects", "predicted_objects"), results.object_counts, strict=True))
    for values in results.metrics.values():
        now |= values
    for name, value in now.items():
        was = before.get(name, value)
        if not math.isclose(was, value, abs_tol=_TOLERANCE) and not math.isnan(was + value):
            raise UserError(
                f"{path} has {name} {was:g}, but its files now give {value:g}: {record.truth} or "
                f"{record.predictions} changed since the evaluation, or another version of this "
                f"package made it. {_remedy(folder)}"
            )


def _number(name: str, value) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}, no number")
    return float(value)


def _check_same_images(base: RunReport, other: RunReport) -> None:
    remedy = "Runs are compared image by image: evaluate both on the same data set."
    both = f"{base.label} ({base.record.truth}) and {other.label} ({other.record.truth})"
    for one, two in ((base, other), (other, base)):
        missing = [
            image for key, image in one.truth.records.items() if key not in two.truth.records
        ]
        if missing:
            raise DatasetError(
                f"{both} are of other images: {two.label} lacks {len(missing)} images of "
                f"{one.label}, e.g. {missing[0].file_name}. {remedy}"
            )
    for row, (first, second) in enumerate(zip(base.images, other.images, strict=True)):
        if (Path(first.file_name).name, first.shape) != (Path(second.file_name).name, second.shape):
            raise DatasetError(
                f"{both} are of other images: image {first.image_id} is {first.file_name} of "
                f"{first.shape} (height, width), and {second.file_name} of {second.shape}. {remedy}"
            )
        areas = [run.results.overlaps[row].true_areas for run in (base, other)]
        if not np.array_equal(*areas):
            raise DatasetError(
                f"{both} have other true objects in {first.file_name}: {len(areas[0])} with "
                f"{areas[0].sum()} pixels, and {len(areas[1])} with {areas[1].sum()}. {remedy}"
            )


def _remedy(folder: Path) -> str:
    return (
        "For a training: python tools/train_net.py --config-file CONFIG.yaml --eval-only "
        "MODEL.WEIGHTS model_final.pth OUTPUT_DIR DIR; for files: python tools/evaluate.py "
        f"--predictions P --truth T --images I --output {folder}"
    )
