"""What is reported of the matchings of a data set: results by task, log lines, and files."""

import itertools
import math
import os
import re
from collections.abc import Sequence
from functools import cached_property

from ...errors import DatasetError
from ...files import write_json
from .matching import InstanceOverlap
from .measure_table import MeasureTable
from .measures import FOREGROUND_MEASURES, INSTANCE_MEASURES, Measure
from .overlap import write_csv

IMAGES_FILE = "instances_per_image.csv"
METRICS_FILE = "instance_metrics.json"

# Column of the file of images: the measure that it is the image's value of.
_IMAGE_COLUMNS = {
    "IoU": "IoU_image_mean",
    "Dice": "Dice_image_mean",
    "DSB_score": "DSB_score",
    "cell_AP50": "cell_AP50_image_mean",
    "F1_50": "F1_50_image_mean",
    "PQ": "PQ_image_mean",
    "AJI": "AJI_image_mean",
    "matched_IoU": "matched_IoU_image_mean",
    "matched_Dice": "matched_Dice_image_mean",
    "boundary_F1": "boundary_F1",
    "count_bias": "count_bias",
    "merges": "merges",
    "splits": "splits",
}
COLUMNS = ("image_id", "file_name", "n_gt", "n_pred", *_IMAGE_COLUMNS)

# Written, but neither logged nor drawn as a training curve.
_DETAIL = re.compile(r"cell_AP(?!50|75|90)\d\d_")

_TASKS = {"instances": INSTANCE_MEASURES, "foreground": FOREGROUND_MEASURES}


class InstanceResults:
    """The measures of a data set by task: "instances" and "foreground"."""

    def __init__(self, overlaps: Sequence[InstanceOverlap]):
        """
        Args:
            overlaps: the images; they are sorted by their image_id.

        Raises:
            DatasetError: an image is there twice.
        """
        self.overlaps = sorted(overlaps, key=lambda overlap: overlap.image_id)
        for one, other in itertools.pairwise(self.overlaps):
            if one.image_id == other.image_id:
                raise DatasetError(f"The image {one.image_id} ({one.file_name}) is there twice.")
        self.tables = {
            task: MeasureTable.from_overlaps(self.overlaps, measures)
            for task, measures in _TASKS.items()
        }

    @cached_property
    def metrics(self) -> dict[str, dict[str, float]]:
        """``{task: {measure: value}}``, each in its unit."""
        return {task: table.summary() for task, table in self.tables.items()}

    @property
    def headline(self) -> dict[str, dict[str, float]]:
        """The same without the thresholds between .50, .75 and .90."""
        return {
            task: {name: value for name, value in values.items() if not _DETAIL.match(name)}
            for task, values in self.metrics.items()
        }

    @property
    def object_counts(self) -> tuple[int, int]:
        """The numbers of true and of predicted objects."""
        return (
            sum(len(overlap.true_areas) for overlap in self.overlaps),
            sum(len(overlap.pred_areas) for overlap in self.overlaps),
        )

    def format(self) -> str:
        """Return a line "<measure> <value>: <definition>" for each of ``headline``."""
        return "\n".join(
            f"{name} {value:.2f}: {definition_of(measure)}"
            for task, values in self.headline.items()
            for measure in _TASKS[task]
            for name, value in values.items()
            if name == measure.name
        )

    def write(self, folder, facts: dict) -> None:
        """Write ``instances_per_image.csv`` and ``instance_metrics.json``, atomically.

        Args:
            folder: made if it does not exist.
            facts: what else the JSON file is to say: data set, options.
        """
        write_csv(os.path.join(folder, IMAGES_FILE), COLUMNS, self._rows())
        true_count, pred_count = self.object_counts
        content = {
            **facts,
            "images": len(self.overlaps),
            "objects": true_count,
            "predicted_objects": pred_count,
            "results": {
                task: {name: None if math.isnan(value) else value for name, value in found.items()}
                for task, found in self.metrics.items()
            },
            "definitions": {
                measure.name: definition_of(measure)
                for measures in _TASKS.values()
                for measure in measures
            },
        }
        write_json(os.path.join(folder, METRICS_FILE), content, indent=2)

    def _rows(self) -> list[list]:
        columns = []
        for name in _IMAGE_COLUMNS.values():
            task = next(task for task, found in self.metrics.items() if name in found)
            columns.append(self.tables[task].image_values(name))
        return [
            [
                overlap.image_id,
                overlap.file_name,
                len(overlap.true_areas),
                len(overlap.pred_areas),
                *("" if math.isnan(value) else f"{value:.4f}" for value in values),
            ]
            for overlap, *values in zip(self.overlaps, *columns, strict=True)
        ]


def definition_of(measure: Measure) -> str:
    """Return definition, unit and source of a measure in a line."""
    source = f" [{measure.source}]" if measure.source else ""
    return f"{measure.definition}; {measure.unit}{source}"
