"""Measures of a data set: values of all images, bootstrap intervals, and their files."""

import itertools
import math
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ...errors import DatasetError, look_up_option
from ...files import write_csv, write_json
from ..record import INSTANCE_IMAGES_FILE, INSTANCE_METRICS_FILE, EvaluationOptions, nan_to_none
from .measures import FOREGROUND_MEASURES, INSTANCE_MEASURES, Measure
from .overlap import InstanceOverlap
from .pixel_counts import PixelCounts

LEVEL = 0.95

# Columns of the file of images: the image's values of these measures, or of <name>_image_mean.
_SCORES = ("IoU", "Dice", "DSB_score", "cell_AP50", "F1_50", "PQ", "AJI")
_DETAILS = ("matched_IoU", "boundary_F1", "count_bias", "merges", "splits")
COLUMNS = ("image_id", "file_name", "n_gt", "n_pred", *_SCORES, *_DETAILS)

# Written, but neither logged nor drawn as a training curve.
_DETAIL = re.compile(r"cell_AP(?!50|75|90)\d\d_")


@dataclass(frozen=True)
class MeasureTable:
    """What measures are made of, an image per row.

    Attributes:
        measures: the columns.
        parts: (numerators, denominators), each (N, K), of each measure.
    """

    measures: tuple[Measure, ...]
    parts: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    def of(
        cls, images: Sequence[InstanceOverlap | PixelCounts], measures: Sequence[Measure]
    ) -> "MeasureTable":
        """Take the measures of images, from what these measures are ratios of."""
        parts = []
        for measure in measures:
            ratios = np.array([measure.ratio(image) for image in images], float)
            ratios = ratios.reshape(len(images), 2, -1 if len(images) else 1)
            parts.append((ratios[:, 0].copy(), ratios[:, 1].copy()))
        return cls(tuple(measures), tuple(parts))

    def __len__(self) -> int:
        return len(self.parts[0][0])

    def select(self, rows: Sequence[int]) -> "MeasureTable":
        """Return the table of some images, by their row numbers."""
        rows = np.asarray(rows, dtype=int)
        return replace(self, parts=tuple((top[rows], bottom[rows]) for top, bottom in self.parts))

    def image_values(self, name: str) -> np.ndarray:
        """Return a measure's value of each image (N,) in its unit; NaN where it has none."""
        names = [measure.name for measure in self.measures]
        index = names.index(look_up_option(name, names, "measure"))
        measure = self.measures[index]
        return measure.scale * _mean_ratio(*self.parts[index], measure.empty)

    def summary(self) -> dict[str, float]:
        """Return every measure of all images in its unit; NaN where nothing defines it."""
        everything = np.ones((1, len(self)))
        return {name: float(values[0]) for name, values in self.resampled(everything).items()}

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return every measure (B,) of B samples of the images.

        Args:
            weights: (B, N), how often each sample holds each image, from :func:`resample`.
        """
        if len(self) == 0:
            return {measure.name: np.full(len(weights), np.nan) for measure in self.measures}
        values = {}
        for measure, (top, bottom) in zip(self.measures, self.parts, strict=True):
            empty = measure.empty
            if measure.by_image:
                ratios = _mean_ratio(top, bottom, empty)[:, None]
                bottom, empty = np.isfinite(ratios), np.nan
                top = np.where(bottom, ratios, 0.0)
            ratios = _mean_ratio(weights @ top, weights @ bottom, empty)
            values[measure.name] = measure.scale * ratios
        return values


class InstanceResults:
    """The measures of a data set by task: "instances" and "foreground"."""

    def __init__(self, overlaps: Sequence[InstanceOverlap]):
        """Sort the images by image_id; DatasetError: one is there twice."""
        self.overlaps = sorted(overlaps, key=lambda overlap: overlap.image_id)
        for one, other in itertools.pairwise(self.overlaps):
            if one.image_id == other.image_id:
                raise DatasetError(f"The image {one.image_id} ({one.file_name}) is there twice.")
        foregrounds = [overlap.foreground for overlap in self.overlaps]
        self.tables = {
            "instances": MeasureTable.of(self.overlaps, INSTANCE_MEASURES),
            "foreground": MeasureTable.of(foregrounds, FOREGROUND_MEASURES),
        }

    @cached_property
    def metrics(self) -> dict[str, dict[str, float]]:
        """``{task: {measure: value}}``, each in its unit."""
        return {task: table.summary() for task, table in self.tables.items()}

    @property
    def values(self) -> dict[str, float]:
        """``{measure: value}`` of all tasks."""
        return {name: value for each in self.metrics.values() for name, value in each.items()}

    @property
    def headline(self) -> dict[str, dict[str, float]]:
        """``metrics`` without the thresholds between .50, .75 and .90."""
        return {
            task: {name: value for name, value in values.items() if not _DETAIL.match(name)}
            for task, values in self.metrics.items()
        }

    @property
    def measures(self) -> list[Measure]:
        """Those of all tasks."""
        return [measure for table in self.tables.values() for measure in table.measures]

    @property
    def object_counts(self) -> tuple[int, int]:
        """The numbers of true and of predicted objects."""
        true_counts = (len(overlap.true_areas) for overlap in self.overlaps)
        return sum(true_counts), sum(len(overlap.pred_areas) for overlap in self.overlaps)

    def image_values(self, name: str) -> np.ndarray:
        """See :meth:`MeasureTable.image_values`."""
        task = next(task for task, values in self.metrics.items() if name in values)
        return self.tables[task].image_values(name)

    def format(self) -> str:
        """Return a line "<measure> <value>: <definition>" for each of ``headline``."""
        return "\n".join(
            f"{measure.name} {self.values[measure.name]:.2f}: {measure.description}"
            for measure in self.measures
            if not _DETAIL.match(measure.name)
        )

    def write(self, folder, dataset: str, options: EvaluationOptions, **facts) -> None:
        """Write ``instances_per_image.csv`` and ``instance_metrics.json``, atomically.

        ``facts`` are what else the JSON file is to say.
        """
        names = {name.removesuffix("_image_mean"): name for name in self.values}
        columns = [self.image_values(names[name]) for name in (*_SCORES, *_DETAILS)]
        rows = []
        for overlap, *values in zip(self.overlaps, *columns, strict=True):
            sizes = (len(overlap.true_areas), len(overlap.pred_areas))
            shown = ("" if math.isnan(value) else f"{value:.4f}" for value in values)
            rows.append([overlap.image_id, overlap.file_name, *sizes, *shown])
        write_csv(os.path.join(folder, INSTANCE_IMAGES_FILE), COLUMNS, rows)
        true_count, pred_count = self.object_counts
        content = {
            "dataset": dataset,
            **options.counting,
            "boundary_tolerance": options.boundary_tolerance,
            **facts,
            "images": len(self.overlaps),
            "objects": true_count,
            "predicted_objects": pred_count,
            "results": {task: nan_to_none(values) for task, values in self.metrics.items()},
            "definitions": {measure.name: measure.description for measure in self.measures},
        }
        write_json(os.path.join(folder, INSTANCE_METRICS_FILE), content, indent=2)


def resample(image_count: int, samples: int, seed: int = 0) -> np.ndarray:
    """Draw bootstrap samples of images with replacement, each as large as the set.

    Equal arguments give equal samples, so that runs on the same images can be paired.

    Returns:
        integers (samples, image_count): how often a sample holds each image.
    """
    shares = np.full(image_count, 1 / image_count)
    return np.random.default_rng(seed).multinomial(image_count, shares, size=samples)


def mean_over_seeds(drawn: np.ndarray) -> np.ndarray:
    """Return the mean (B,) over the seeds of a training in samples of its seeds and images.

    Each sample draws S of the S seeds with replacement, equal ones for equal shapes, so that
    trainings of as many seeds can be paired.

    Args:
        drawn: (S, B), a measure of each seed in B samples of the images.
    """
    chosen = np.random.default_rng(0).integers(len(drawn), size=drawn.shape)
    return np.take_along_axis(drawn, chosen, axis=0).mean(axis=0)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval (Efron 1979) of bootstrap values, NaN ones left out."""
    defined = values[np.isfinite(values)]
    if defined.size == 0:
        return math.nan, math.nan
    return tuple(np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist())


def _mean_ratio(top: np.ndarray, bottom: np.ndarray, empty: float) -> np.ndarray:
    """Return the mean over K of top / bottom, both (..., K), with ``empty`` for 0 / 0."""
    bottom = np.asarray(bottom, float)
    ratios = np.divide(top, bottom, out=np.full(bottom.shape, empty), where=bottom != 0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice")
        return np.nanmean(ratios, axis=-1)
