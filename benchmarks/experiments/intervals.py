"""Intervals of the differences between runs, over the seeds and the images at once."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from unet_sharp_det.evaluation.instances.results import interval, mean_over_seeds, resample
from unet_sharp_det.evaluation.record import AP_SAMPLES
from unet_sharp_det.report.collect import RunReport
from unet_sharp_det.report.comparison import estimates_of


def draw_metrics(folder: Path, metrics: Iterable[str]) -> dict[str, str]:
    """Return the metrics of an evaluation in bootstrap samples of its images, to be kept.

    Runs on the same images have the same samples, so that their differences are paired.

    Args:
        folder: of an evaluation of instances.
        metrics: ``<task>/<name>``, of a table.

    Returns:
        dict: ``{metric: numbers, parted by spaces}``.

    Raises:
        UserError: the evaluation cannot be repeated from its files.
    """
    run = RunReport.read(folder, folder.name)
    drawn = estimates_of(run, resample(len(run.images), AP_SAMPLES), AP_SAMPLES).drawn
    return {
        metric: " ".join(f"{value:.3f}" for value in drawn[metric.removeprefix("instances/")])
        for metric in metrics
    }


def difference_interval(base: list[str], other: list[str]) -> tuple[float, float]:
    """Return the 95 % interval of the mean difference between two runs over their seeds.

    Each bootstrap sample draws images, the same ones for all, and seeds, with replacement.

    Args:
        base, other: for each seed, what :func:`draw_metrics` has of a metric.
    """
    base, other = (
        mean_over_seeds(np.array([row.split() for row in rows], dtype=float))
        for rows in (base, other)
    )
    return interval(other - base)
