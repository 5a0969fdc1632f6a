"""Evaluation of predictions in files, of any tool, by the measures of the evaluators."""

import logging
import os
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from ..errors import ConfigError, DatasetError, counted
from ..files import read_json
from .classes import ClassResults
from .coco.ap_report import explain_undefined, write_ap_report
from .evaluation import Evaluation
from .instances.results import LEVEL, interval, resample
from .readers.predictions import LabelMapPredictions
from .record import (
    AP_METRICS_FILE,
    AP_SAMPLES,
    AP_TABLE_FILE,
    SAMPLES,
    EvaluationOptions,
    EvaluationRecord,
    nan_to_none,
)

# The rows of the printed table; the files have all.
_SCORES = ("DSB_score", "cell_AP50_pooled", "cell_AP75_pooled", "F1_50_pooled", "PQ_image_mean")
_DETAILS = ("AJI_image_mean", "boundary_F1", "count_error", "count_bias", "merges", "splits")
_HEADLINES = (*_SCORES, *_DETAILS, "IoU_image_mean", "Dice_image_mean")
_AP_HEADLINES = ("AP", "AP50", "AP75")
# Share of neighbouring pixels of objects that are of one object: .97 in DSB2018's label maps and
# more, .78 and less in its pictures, .06 in those of 16 bits of BBBC039.
_LEAST_SAME = 0.8

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
        output: folder for the files of :class:`InstanceEvaluator`, and of predictions with scores
            those of :class:`NucleiCOCOEvaluator`; each is replaced atomically, after everything is
            computed.
        images: folder that the images' file names are relative to, for reports.
        dataset: what reports call the data; None: the name of ``truth``.
        options: of the measures; None: the defaults.
        suffix, truth_suffix: of label maps, see :func:`find_label_maps`.
        allow_missing: see :func:`open_predictions`.
        samples, ap_samples: bootstrap samples of the images for the intervals, and for AP's.

    Returns:
        str: a Markdown table of the headline measures with their 95 % percentile intervals; of
        several classes those of :meth:`.ClassResults.format`, too.

    Raises:
        UserError: a file or folder is missing, malformed, or does not fit another one.
    """
    _check_folders(output, images)
    for option, count in (("--samples", samples), ("--ap-samples", ap_samples)):
        if count < 1:
            raise ConfigError(f"{option} must be 1 or more, not {count}.")
    record = EvaluationRecord(
        dataset=dataset or Path(truth).resolve().stem,
        truth=os.fspath(truth),
        predictions=os.fspath(predictions),
        images=images and os.fspath(images),
        suffix=suffix,
        truth_suffix=truth_suffix,
        allow_missing=allow_missing,
        options=options or EvaluationOptions(),
    )
    evaluation = Evaluation.of(record)
    results, coco = evaluation.results, evaluation.coco
    _warn(evaluation)
    count = len(evaluation.images)
    weights = resample(count, samples)
    drawn = {task: table.resampled(weights) for task, table in results.tables.items()}
    if coco:
        drawn["segm"] = coco["segm"].bootstrap(resample(count, ap_samples))
    intervals = {
        task: {name: interval(values) for name, values in of_task.items()}
        for task, of_task in drawn.items()
    }
    found = {task: nan_to_none(intervals[task]) for task in results.tables}
    facts = {"intervals": found, "interval_samples": samples}
    classes = ClassResults.of(evaluation.truth, evaluation.predictions, record.options)
    facts |= classes.facts() if classes else {}
    results.write(output, record.dataset, record.options, **facts)
    if coco:
        found = {"segm": nan_to_none(intervals["segm"])}
        facts = {"intervals": found, "interval_samples": ap_samples}
        objects = len(evaluation.truth.coco.anns)
        write_ap_report(output, coco, record.options, record.dataset, objects, **facts)
        for line in explain_undefined(coco):
            logger.info(line)
    else:
        logger.info(
            f"{predictions}: has no scores, by which AP and AR of COCO rank detections: they are "
            "not reported. cell_AP needs none."
        )
        for name in (AP_METRICS_FILE, AP_TABLE_FILE):  # Of former predictions.
            Path(output, name).unlink(missing_ok=True)
    replace(record, predictions=os.path.abspath(predictions)).write(output)
    table = _format_table(evaluation, intervals)
    return f"{table}\n\n{classes.format()}" if classes else table


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
    path = Path(output) / AP_METRICS_FILE
    try:  # A training's log of this name has a JSON object per line.
        is_own = not path.exists() or "results" in read_json(path, dict)
    except DatasetError:
        is_own = False
    if not is_own:
        raise DatasetError(
            f"--output: {path} was not written by an evaluation (a training logs to a file of that "
            "name); give another folder."
        )


def _warn(evaluation: Evaluation) -> None:
    """Warn of pictures that are not there, and of masks and pictures that are no label maps."""
    folder, records = evaluation.record.images, evaluation.images
    missing = [each.file_name for each in records if folder and each.find_picture(folder) is None]
    if missing:
        logger.warning(
            f"{folder}: lacks {len(missing)} of {len(records)} images, e.g. {missing[0]}; reports "
            "will not show them. Give --images, to which the names in the truth are relative."
        )
    overlaps = evaluation.results.overlaps
    several = any(len(overlap.true_areas) > 1 for overlap in overlaps)
    single = all(len(overlap.pred_areas) <= 1 for overlap in overlaps)
    if several and single and not evaluation.predictions.has_scores:
        logger.warning(
            "No image has more than one predicted object: if these are masks of the foreground, "
            "number their objects first, e.g. by scipy.ndimage.label."
        )
    if isinstance(evaluation.predictions, LabelMapPredictions):
        first = evaluation.predictions.instance_map(records[0].image_id).labels
        inner = (first[..., 1:] > 0) & (first[..., :-1] > 0)
        if inner.any() and (first[..., 1:] == first[..., :-1])[inner].mean() < _LEAST_SAME:
            logger.warning(
                f"{evaluation.record.predictions}: neighbouring pixels mostly have other numbers, "
                "as in pictures. Give the folder of the label maps."
            )


def _format_table(evaluation: Evaluation, intervals: dict) -> str:
    results, rows = evaluation.results, []
    for name in _AP_HEADLINES if evaluation.coco else ():
        value, bounds = evaluation.coco["segm"].metrics[name], intervals["segm"][name]
        rows.append((f"{name} of masks (COCO)", value, bounds, "percent"))
    units = {measure.name: measure.unit for measure in results.measures}
    for task, values in results.metrics.items():
        for name in (name for name in _HEADLINES if name in values):
            rows.append((name, values[name], intervals[task][name], units[name]))
    true, predicted = results.object_counts
    images = counted(len(results.overlaps), "image")
    text = f"{images}, {counted(true, 'true object')} and {counted(predicted, 'predicted object')}"
    rows = [(name, value, "{:.2f} to {:.2f}".format(*ends), u) for name, value, ends, u in rows]
    head = ["measure", "value", f"{100 * LEVEL:.0f} % interval", "unit"]
    return f"{text}\n\n{tabulate(rows, head, 'pipe', floatfmt='.2f')}"
