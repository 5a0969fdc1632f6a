"""Measures of several classes: of each by itself, and which are taken for which."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from ..masks.instance_maps import InstanceMap
from .instances.overlap import InstanceOverlap, pairs_above_half, without_void
from .instances.results import InstanceResults
from .readers.predictions import CocoPredictions, Predictions
from .readers.truth import NONE, Truth, category_names
from .record import EvaluationOptions, nan_to_none

#: What is shown of a class.
CLASS_MEASURES = ("DSB_score", "F1_50_pooled", "PQ_image_mean", "AJI_image_mean")


@dataclass(frozen=True)
class ClassResults:
    """The results of each class, and a confusion table.

    Attributes:
        results: by the class's name, of its true and predicted objects alone, and of the images
            that hold any; NaN where none does.
        confusion: integers (C + 1, C + 1): rows are true classes and "none", columns predicted ones
            and "none"; pairs of objects of IoU > .5, those of equal class first. The last column
            counts missed objects, the last row false ones.
    """

    results: dict[str, InstanceResults]
    confusion: np.ndarray

    @classmethod
    def of(
        cls, truth: Truth, predictions: Predictions, options: EvaluationOptions
    ) -> "ClassResults | None":
        """Judge predictions by class; None if there are not several classes, or none are told."""
        if not truth.has_categories or not isinstance(predictions, CocoPredictions):
            return None
        names = category_names(truth.coco)
        if len(names) < 2 or not predictions.has_categories:
            return None
        overlaps = {category: [] for category in names}
        confusion = np.zeros((len(names) + 1, len(names) + 1), np.int64)
        for image_id, record in truth.records.items():
            void = truth.void(image_id)
            opened = (
                [each.instance_map(image_id, k) for k in names] for each in (truth, predictions)
            )
            pairs = [without_void(*maps, void) for maps in zip(*opened, strict=True)]
            place = {"image_id": image_id, "file_name": record.file_name}
            place["boundary_tolerance"] = options.boundary_tolerance
            for category, maps in zip(names, pairs, strict=True):
                # An image with neither counts as 100: a class of few images would look found.
                if any(map(len, maps)):
                    overlaps[category].append(InstanceOverlap.count(*maps, **place))
            confusion += confuse(*zip(*pairs, strict=True))
        results = {names[key]: InstanceResults(found) for key, found in overlaps.items()}
        return cls(results, confusion)

    @property
    def names(self) -> list[str]:
        """The classes, in the order of the confusion table."""
        return list(self.results)

    def mean(self, measure: str) -> float:
        """Return a measure's mean over the classes that have true objects; NaN: none has any."""
        counted = [each for each in self.results.values() if each.object_counts[0]]
        return float(np.mean([each.values[measure] for each in counted])) if counted else math.nan

    def facts(self) -> dict:
        """Return what ``instance_metrics.json`` holds of the classes."""
        by_class = {}
        for name, found in self.results.items():
            objects, predicted = found.object_counts
            by_class[name] = {"objects": objects, "predicted_objects": predicted}
            by_class[name] |= nan_to_none({each: found.values[each] for each in CLASS_MEASURES})
        means = {each: self.mean(each) for each in CLASS_MEASURES}
        labels = [*self.names, NONE]
        table = dict(zip(labels, self.confusion.tolist(), strict=True))
        return {"classes": by_class, "class_means": nan_to_none(means), "confusion": table}

    def format(self) -> str:
        """Return Markdown tables of the measures and of the confusion."""
        rows = [
            [name, *found.object_counts, *(found.values[each] for each in CLASS_MEASURES)]
            for name, found in self.results.items()
        ]
        rows.append(["mean of classes", None, None, *map(self.mean, CLASS_MEASURES)])
        head = ["class", "objects", "predicted", *CLASS_MEASURES]
        labels = [*self.names, NONE]
        counts = [[name, *row] for name, row in zip(labels, self.confusion.tolist(), strict=True)]
        tables = (rows, head), (counts, ["true \\ predicted", *labels])
        return "\n\n".join(tabulate(*each, "pipe", floatfmt=".2f") for each in tables)


def confuse(true: Sequence[InstanceMap], predicted: Sequence[InstanceMap]) -> np.ndarray:
    """Return the confusion table of an image, from a map of each class; see
    :class:`ClassResults`."""
    count = len(true)
    table = np.zeros((count + 1, count + 1), np.int64)
    free_true = [np.ones(len(each), bool) for each in true]
    free_predicted = [np.ones(len(each), bool) for each in predicted]
    order = sorted(np.ndindex(count, count), key=lambda pair: pair[0] != pair[1])
    for row, column in order:
        for i, j in zip(*pairs_above_half(true[row], predicted[column]), strict=True):
            if free_true[row][i] and free_predicted[column][j]:
                free_true[row][i] = free_predicted[column][j] = False
                table[row, column] += 1
    table[:count, count] = [np.count_nonzero(each) for each in free_true]
    table[count, :count] = [np.count_nonzero(each) for each in free_predicted]
    return table
