"""The measures of methods side by side: values, and differences to the first method."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.instances.measures import Measure
from ..evaluation.instances.results import resample
from .collect import Method, RunReport
from .estimates import Estimate, Estimates
from .volumes import VolumeRun

HEADLINE = ("DSB_score", "F1_50_image_mean", "segm/AP", "PQ_image_mean", "count_bias")

# Title, and the names of the measures: a measure is in the first group that has it.
_GROUPS = {
    "Objects, over IoU thresholds": r"DSB_score|cell_AP_.*|F1_(image_mean|pooled)",
    "Objects at IoU .5": r"(F1_50|precision_50|recall_50|RQ|cell_AP50)_.*",
    "Objects and their outlines": r"(PQ|SQ|AJI|matched_IoU)_.*|boundary_F1",
    "Counts": r"count_.*|merges|splits",
    "Pixels of the foreground": r"(IoU|Dice)_.*",
    "Surfaces": r"(HD95|surface_Dice)_.*",
    "COCO, masks": r"segm/.*",
    "COCO, boxes": r"bbox/.*",
    "Cell AP at each IoU threshold": r"cell_AP\d\d_.*",
    "Other measures": r".*",
}
_COCO_SOURCE = "COCO detection evaluation, cocodataset.org/#detection-eval"


@dataclass(frozen=True)
class Row:
    """A measure of all methods.

    Attributes:
        measure: also of COCO's metrics, whose ratio is not used.
        estimates: of each method.
        differences: of each method but the first, to the first one.
    """

    measure: Measure
    estimates: list[Estimate]
    differences: list[Estimate]

    def verdict(self, number: int) -> str:
        """Return "better" or "worse" where the interval of a difference says so, else ""."""
        difference = self.differences[number]
        if not difference.excludes_zero or self.measure.goal == "zero":
            return ""
        rises = difference.low > 0
        return "better" if rises == (self.measure.goal == "largest") else "worse"


class Comparison:
    """All measures of methods on the same images, with intervals from the same samples of them.

    Args:
        methods: on the same images; the first one is what the others are compared with.
        samples: number of bootstrap samples of the images.
        ap_samples: COCO's metrics, which take longer, are of the first of them.
        headline: names of the most important measures.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        samples: int,
        ap_samples: int,
        headline: Sequence[str] = HEADLINE,
    ):
        self.methods = list(methods)
        self._headline = headline
        weights = resample(len(methods[0].images), samples)
        self.estimates = [
            Estimates.of_seeds([estimates_of(run, weights, ap_samples) for run in method.seeds])
            for method in methods
        ]
        self.rows = {
            measure.name: self._row(measure)
            for measure in _measures_of([run for method in methods for run in method.seeds])
            if all(measure.name in found for found in self.estimates)
        }

    def _row(self, measure: Measure) -> Row:
        base, *others = self.estimates
        return Row(
            measure,
            [found[measure.name] for found in self.estimates],
            [other.difference(base, measure.name) for other in others],
        )

    @property
    def headline(self) -> list[Row]:
        """The rows of the most important measures that all methods have."""
        return [self.rows[name] for name in self._headline if name in self.rows]

    @property
    def groups(self) -> dict[str, list[Row]]:
        """``{title: rows}`` of all measures."""
        grouped = {title: [] for title in _GROUPS}
        for name, row in self.rows.items():
            title = next(title for title, names in _GROUPS.items() if re.fullmatch(names, name))
            grouped[title].append(row)
        return {title: rows for title, rows in grouped.items() if rows}


def _measures_of(runs: Sequence[RunReport | VolumeRun]) -> list[Measure]:
    found = {measure.name: measure for measure in runs[0].results.measures}
    for run in runs:
        for task, result in run.coco.items():
            for name, definition in result.definitions.items():
                key = f"{task}/{name}"
                found[key] = Measure(key, definition, _COCO_SOURCE, None, False, np.nan)
    return list(found.values())


def estimates_of(run: RunReport | VolumeRun, weights: np.ndarray, ap_samples: int) -> Estimates:
    """Return all measures of a run in samples of its images, weights (B, N)."""
    # Those of no table, as of a volume's slices, have no interval.
    values = run.results.values
    found = Estimates(values, dict.fromkeys(values, np.empty(0)))
    for table in run.results.tables.values():
        found |= Estimates.of_table(table, weights)
    for task, result in run.coco.items():
        found |= Estimates.of_coco(result, weights[:ap_samples], f"{task}/")
    return found
