"""The score threshold that is best on the validation images."""

from dataclasses import replace

import numpy as np

from ..evaluation.evaluation import match_images
from ..evaluation.instances.results import InstanceResults
from ..evaluation.readers import open_predictions, open_truth
from ..evaluation.record import EvaluationRecord

THRESHOLDS = tuple(np.round(np.arange(0.1, 0.91, 0.05), 2).tolist())


def measure_by_threshold(record: EvaluationRecord, measure: str) -> dict[float, float]:
    """Return a measure of instances at each of ``THRESHOLDS``, from the files of an evaluation."""
    truth = open_truth(record.truth)
    opened = open_predictions(record.predictions, truth, record.options)
    found = {}
    for threshold in THRESHOLDS:
        options = replace(record.options, score_threshold=threshold)
        predictions = replace(opened, options=options)
        results = InstanceResults(match_images(truth, predictions, options))
        found[threshold] = results.values[measure]
    return found


def best_threshold(values: dict[float, float]) -> float:
    """Return the threshold with the largest value; of equal ones that nearest to .5.

    As StarDist's ``optimize_thresholds`` does by a search.
    """
    return max(values, key=lambda threshold: (values[threshold], -abs(threshold - 0.5)))
