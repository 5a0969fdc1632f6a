"""Runs on volumes. Their predictions are not kept: what is shown is read from the evaluation."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..evaluation.evaluation import evaluate_again, find_evaluation
from ..evaluation.evaluators.volumes import VOLUME_MEASURES, VolumeEvaluator
from ..evaluation.instances.measures import Measure
from ..evaluation.instances.results import MeasureTable
from ..evaluation.record import SEMANTIC_METRICS_FILE, SLICES_FOLDER, EvaluationRecord
from ..files import read_json, safe_join
from ..images import read_image
from .drawing import data_uri
from .training import Training

HEADLINE = ("Dice_image_mean", "IoU_image_mean", "HD95_image_mean", "surface_Dice_image_mean")


@dataclass(frozen=True)
class Case:
    """A volume, called by its id."""

    file_name: str


@dataclass(frozen=True)
class VolumeResults:
    """The measures of volumes, as far as :class:`.InstanceResults` has them too.

    Attributes:
        cases: (N, C) by name of ``VolumeEvaluator.ratios``, in the measure's unit.
        channels: the C names.
        values: ``{measure: value}``, of several channels their mean and ``<measure>/<channel>``.
    """

    cases: dict[str, np.ndarray]
    channels: list[str]
    values: dict[str, float]

    @property
    def measures(self) -> list[Measure]:
        """Those of ``values``."""
        known = {measure.name: measure for measure in VOLUME_MEASURES}
        return [replace(known[name.partition("/")[0]], name=name) for name in self.values]

    @property
    def tables(self) -> dict[str, MeasureTable]:
        """The measures that are means over the volumes: a channel's, and of all channels."""
        measures, parts = [], []
        for measure in self.measures:
            name, _, channel = measure.name.partition("/")
            values = self.cases.get(name.removesuffix("_image_mean"))
            if values is not None and name.endswith("_image_mean"):
                values = values[:, [self.channels.index(channel)]] if channel else values
                measures.append(replace(measure, by_image=False, empty=np.nan))
                parts.append((np.nan_to_num(values) / measure.scale, np.isfinite(values)))
        return {"sem_seg": MeasureTable(tuple(measures), tuple(parts))}

    def image_values(self, name: str) -> np.ndarray:
        """Return a measure's value of each volume (N,), of several channels their mean."""
        return self.tables["sem_seg"].image_values(name)


@dataclass(frozen=True)
class VolumeRun:
    """The evaluation of a run on volumes; ``images`` are in the order of the results.

    See :class:`.RunReport`.
    """

    label: str
    folder: Path
    record: EvaluationRecord
    training: Training
    images: list[Case]
    results: VolumeResults
    coco = {}  # There are no boxes.

    @classmethod
    def read(cls, run, label: str, dataset: str | None = None, _=None) -> "VolumeRun":
        """Find the evaluation of a run, and read its files.

        Raises:
            UserError: a file is missing or malformed.
        """
        folder = find_evaluation(run, dataset)
        record, remedy = EvaluationRecord.read(folder), evaluate_again(folder)
        training = Training.of_evaluation(folder, run, record.dataset)
        content = read_json(folder / SEMANTIC_METRICS_FILE, dict, remedy)
        try:
            with open(record.predictions, encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            ids = list(dict.fromkeys(row["image_id"] for row in rows))
            channels = list(content["channels"])
            shape = (len(ids), len(channels))
            cases = {
                name: np.array([float(row[name]) for row in rows]).reshape(shape)
                for name in VolumeEvaluator.ratios
            }
            known = [measure.name for measure in VOLUME_MEASURES]
            values = {
                name: np.nan if value is None else float(value)
                for name, value in content["metrics"].items()
                if name.partition("/")[0] in known
            }
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{record.predictions}: is missing or malformed. {remedy}") from error
        results = VolumeResults(cases, channels, values)
        return cls(label, folder, record, training, list(map(Case, ids)), results)

    def picture(self, row: int) -> np.ndarray | None:
        """Read the drawn slice of a volume, uint8 (H, W, 3) in RGB; None if it is not there."""
        name = f"{self.images[row].file_name}.png"
        path = safe_join(self.folder / SLICES_FOLDER, name, self.record.predictions)
        return read_image(path, "RGB") if path.is_file() else None


def case_rows(runs: Sequence[VolumeRun]) -> list[dict]:
    """Return what the table of cases shows: a row per volume, channel and run."""
    return [
        {
            "case": case.file_name,
            "channel": name,
            "label": run.label,
            "values": [values[row, column] for values in run.results.cases.values()],
        }
        for row, case in enumerate(runs[0].images)
        for column, name in enumerate(runs[0].results.channels)
        for run in runs
    ]


def draw_volumes(runs: Sequence[VolumeRun], rows: Sequence[int]) -> list[dict]:
    """Return what the page shows of volumes, as ``draw_images`` does of images."""
    return [
        {
            "file_name": runs[0].images[row].file_name,
            "facts": "the slice with most true voxels: truth on the left, prediction on the right",
            "pictures": [
                {
                    "label": run.label,
                    "uri": data_uri(picture),
                    "size": picture.shape[:2],
                    "score": float(run.results.image_values("Dice_image_mean")[row]),
                    "counts": "",
                }
                for run in runs
                if (picture := run.picture(row)) is not None
            ],
        }
        for row in rows
    ]
