"""The score threshold that is best on the validation images, and what it is worth on others."""

from dataclasses import replace

import numpy as np

from ..evaluation.evaluation import match_images
from ..evaluation.instances.results import InstanceResults
from ..evaluation.readers import open_predictions, open_truth
from ..evaluation.record import EvaluationRecord

THRESHOLDS = tuple(np.round(np.arange(0.1, 0.91, 0.05), 2).tolist())


def measure_by_threshold(record: EvaluationRecord, measure: str) -> np.ndarray:
    """Return a measure of instances (thresholds, images) at each of ``THRESHOLDS``, from the files
    of an evaluation."""
    truth = open_truth(record.truth)
    opened = open_predictions(record.predictions, truth, record.options)
    rows = []
    for threshold in THRESHOLDS:
        options = replace(record.options, score_threshold=threshold)
        predictions = replace(opened, options=options)
        results = InstanceResults(match_images(truth, predictions, options))
        rows.append(results.image_values(measure))
    return np.array(rows)


def best_threshold(values: np.ndarray) -> int:
    """Return the index of the threshold with the largest mean over images, of values (thresholds,
    images); of equal ones that nearest to .5.

    As StarDist's ``optimize_thresholds`` does by a search.
    """
    means = np.mean(values, axis=1)
    return max(range(len(means)), key=lambda row: (means[row], -abs(THRESHOLDS[row] - 0.5)))


def cross_validated(values: np.ndarray) -> float:
    """Return the mean over two or more images, of values (thresholds, images), in which each image
    has the threshold that is best on the others.

    The mean at the best threshold is too good for new images, since these images chose it.
    """
    rows = [best_threshold(np.delete(values, i, axis=1)) for i in range(values.shape[1])]
    return float(values[rows, range(len(rows))].mean())
