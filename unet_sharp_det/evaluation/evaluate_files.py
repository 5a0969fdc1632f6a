"""Evaluation of predictions in files, of any tool, by the measures of the evaluators."""

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import ConfigError, DatasetError
from ..files import read_json
from .coco import ap_report
from .coco.ap import TASKS, CocoResult, area_ranges, coco_average_precision
from .coco.truth import Truth
from .instances.matching import InstanceOverlap
from .instances.measure_table import LEVEL, SAMPLES, interval, resample
from .instances.results import InstanceResults
from .readers.prediction_files import (
    SECONDS_BEFORE_A_BAR,
    Predictions,
    match_images,
    open_predictions,
    open_truth,
)
from .record import EvaluationOptions, EvaluationRecord

AP_SAMPLES = 200

# The rows of the printed table; the files have all.
_HEADLINES = {
    "instances": (
        "DSB_score",
        "cell_AP50_pooled",
        "cell_AP75_pooled",
        "F1_50_pooled",
        "PQ_image_mean",
        "AJI_image_mean",
        "boundary_F1",
        "count_error",
        "count_bias",
        "merges",
        "splits",
    ),
    "foreground": ("IoU_image_mean", "Dice_image_mean"),
}
_AP_HEADLINES = ("AP", "AP50", "AP75")

logger = logging.getLogger(__name__)


def evaluate_files(
    predictions,
    truth,
    output,
    *,
    images=None,
    dataset: str | None = None,
    options: EvaluationOptions | None = None,
    suffix: str | None = None,
    truth_suffix: str | None = None,
    allow_missing: bool = False,
    samples: int = SAMPLES,
    ap_samples: int = AP_SAMPLES,
) -> str:
    """Compare predictions with ground truth, write all measures, and return a table of the main.

    Args:
        predictions: file or folder, see :func:`open_predictions`.
        truth: file or folder, see :func:`open_truth`.
        output: folder for ``instances_per_image.csv``, ``instance_metrics.json`` (both as
            :class:`InstanceEvaluator` writes them), ``evaluation.json``, and of predictions with
            scores ``metrics.json`` and ``ap_table.md`` (as :class:`NucleiCOCOEvaluator` does).
            Each is replaced atomically, after everything is computed.
        images: folder that the images' file names are relative to, for reports.
        dataset: what reports call the data; None: the name of ``truth``.
        options: of the measures; None: the defaults.
        suffix, truth_suffix: of label maps, see :func:`find_label_maps`.
        allow_missing: see :func:`open_predictions`.
        samples: bootstrap samples of the images for the intervals.
        ap_samples: the same for AP, which takes longer.

    Returns:
        str: a Markdown table of the headline measures with their 95 % percentile intervals.

    Raises:
        UserError: a file or folder is missing, malformed, or does not fit another one.
    """
    options = options or EvaluationOptions()
    _check_folders(output, images)
    for option, count in (("--samples", samples), ("--ap-samples", ap_samples)):
        if count < 1:
            raise ConfigError(f"{option} must be 1 or more, not {count}.")
    true = open_truth(truth, truth_suffix)
    weights, ap_weights = (resample(len(true.records), count) for count in (samples, ap_samples))
    found = open_predictions(predictions, true, options, suffix, allow_missing)
    _warn_of_pictures(true, images)
    overlaps = match_images(true, found, options)
    _warn_of_masks(overlaps, found)
    results = InstanceResults(overlaps)
    intervals = {
        task: {name: interval(values) for name, values in table.resampled(weights).items()}
        for task, table in results.tables.items()
    }
    ap = {}
    if found.has_scores:
        ap = average_precision(true, found, options)
        intervals["segm"] = _ap_intervals(ap["segm"], ap_weights)
    else:
        logger.info(
            f"{predictions}: has no scores, by which AP and AR of COCO rank detections: they are "
            "not reported. cell_AP needs none."
        )
    dataset = dataset or Path(truth).resolve().stem
    facts = {
        "dataset": dataset,
        "score_threshold": options.score_threshold,
        "min_area": options.min_area,
        "max_covered": options.max_covered,
        "boundary_tolerance": options.boundary_tolerance,
        "intervals": {task: _nulled(intervals[task]) for task in results.tables},
        "interval_samples": samples,
    }
    results.write(output, facts)
    _write_ap(output, dataset, true, options, ap, intervals.get("segm"), ap_samples)
    EvaluationRecord(
        dataset=dataset,
        truth=os.fspath(truth),
        predictions=os.path.abspath(predictions),
        images=images and os.fspath(images),
        suffix=suffix,
        truth_suffix=truth_suffix,
        allow_missing=allow_missing,
        options=options,
    ).write(output)
    return _format_table(results, ap, intervals)


def average_precision(
    truth: Truth, predictions: Predictions, options: EvaluationOptions
) -> dict[str, CocoResult]:
    """Compute COCO's AP and AR of boxes and of masks.

    Returns:
        dict: results of "bbox" and "segm", whose images are in the order of ``truth.records``.

    Raises:
        UserError: the predictions have no scores.
        DatasetError: ground truth or predictions lack something that COCO's evaluation needs.
    """
    results = predictions.coco_results()
    return {
        task: coco_average_precision(
            truth.coco,
            results,
            task,
            max_dets=options.max_dets,
            area_sides=options.area_sides,
            truth_name=truth.where,
            results_name=predictions.where,
        )
        for task in TASKS
    }


def _ap_intervals(result: CocoResult, weights: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return the interval of each metric from samples of the images, given as (B, N) counts."""
    samples = tqdm(
        [np.repeat(np.arange(len(row)), row) for row in weights],
        desc="intervals of AP",
        unit="sample",
        delay=SECONDS_BEFORE_A_BAR,
    )
    return {name: interval(values) for name, values in result.bootstrap(samples).items()}


def _check_folders(output, images) -> None:
    """Check that output can be written and replaces an evaluation only, and that images exist."""
    if images and not os.path.isdir(images):
        raise DatasetError(f"--images: there is no folder {images}.")
    path = Path(output).absolute()
    there = next(folder for folder in (path, *path.parents) if os.path.exists(folder))
    if not there.is_dir():
        raise DatasetError(f"--output: {there} is a file, give a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise DatasetError(f"--output: {there} cannot be written to, give another folder.")
    path = Path(output) / ap_report.METRICS_FILE
    if path.exists() and not _is_ap_report(path):
        raise DatasetError(
            f"--output: {path} was not written by an evaluation (a training logs to a file of that "
            "name); give another folder."
        )


def _is_ap_report(path: Path) -> bool:
    try:
        content = read_json(path)
    except DatasetError:  # A training's log has a JSON object per line.
        return False
    return isinstance(content, dict) and "results" in content


def _warn_of_pictures(truth: Truth, images) -> None:
    records = truth.records.values() if images else ()
    missing = [record.file_name for record in records if record.find_picture(images) is None]
    if missing:
        logger.warning(
            f"{images}: lacks {len(missing)} of {len(records)} images, e.g. {missing[0]}; reports "
            "will not show them. Give --images, to which the names in the truth are relative."
        )


def _warn_of_masks(overlaps: Sequence[InstanceOverlap], predictions: Predictions) -> None:
    several = any(len(overlap.true_areas) > 1 for overlap in overlaps)
    if several and not predictions.has_scores:
        if all(len(overlap.pred_areas) <= 1 for overlap in overlaps):
            logger.warning(
                "No image has more than one predicted object: if these are masks of the "
                "foreground, number their objects first, e.g. by scipy.ndimage.label."
            )


def _write_ap(output, dataset, truth, options, ap: dict, intervals, samples: int) -> None:
    if not ap:  # Those of former predictions would be taken for these ones'.
        for name in (ap_report.METRICS_FILE, ap_report.TABLE_FILE):
            Path(output, name).unlink(missing_ok=True)
        return
    facts = {
        "dataset": dataset,
        "images": len(truth.records),
        "objects": len(truth.coco.anns),
        "max_dets": options.max_dets,
        "implementation": ap["segm"].implementation,
        "intervals": {"segm": _nulled(intervals)},
        "interval_samples": samples,
    }
    metrics = {task: result.metrics for task, result in ap.items()}
    ap_report.write_report(output, facts, metrics, ap["segm"].definitions)
    for line in ap_report.explain_undefined(metrics, area_ranges(options.area_sides)[1:]):
        logger.info(line)


def _nulled(intervals: dict) -> dict:
    """Return the intervals as JSON can hold them, undefined ones as null."""
    return {
        name: None if math.isnan(low) else [low, high] for name, (low, high) in intervals.items()
    }


def _format_table(results: InstanceResults, ap: dict, intervals: dict) -> str:
    true_count, predicted_count = results.object_counts
    title = (
        f"{len(results.overlaps)} images, {true_count} true and {predicted_count} predicted objects"
    )
    rows = [["measure", "value", f"{100 * LEVEL:.0f} % interval", "unit"]]
    rows.append(["---", "---:", "---:", "---"])
    for name in _AP_HEADLINES if ap else ():
        value = ap["segm"].metrics[name]
        rows.append(_row(f"{name} of masks (COCO)", value, intervals["segm"][name], "percent"))
    for task, names in _HEADLINES.items():
        units = {measure.name: measure.unit for measure in results.tables[task].measures}
        for name in names:
            value = results.metrics[task][name]
            rows.append(_row(name, value, intervals[task][name], units[name]))
    return f"{title}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(name: str, value: float, bounds: tuple[float, float], unit: str) -> list[str]:
    return [name, f"{value:.2f}", f"{bounds[0]:.2f} to {bounds[1]:.2f}", unit]
