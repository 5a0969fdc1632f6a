"""What a finished run gave and cost, from its folder, or from the small file kept of it."""

import logging
from pathlib import Path

import numpy as np

from benchmarks.experiments.experiment import Experiment, Run
from benchmarks.experiments.intervals import draw_metrics
from benchmarks.experiments.run_folder import RunFolder, describe_changes
from unet_sharp_det.errors import UserError
from unet_sharp_det.evaluation.record import (
    AP_METRICS_FILE,
    INSTANCE_METRICS_FILE,
    SEMANTIC_METRICS_FILE,
)
from unet_sharp_det.files import read_json, write_json
from unet_sharp_det.report.training import CURVES_FILE, read_curves
from unet_sharp_det.training.speed import SPEED_FILE

logger = logging.getLogger(__name__)

_REMEDY = "Delete the file and run the experiment again."


def results_folder(run: Run, folder: RunFolder) -> Path:
    """Where the evaluation of a run writes."""
    return folder.path / (f"L{run.level}" if run.level else "") / "inference"


def is_evaluated(folder: Path) -> bool:
    """Whether an evaluation wrote its metrics into a folder, and they can be read."""
    try:
        return bool(read_metrics(folder))
    except UserError:
        return False


def read_metrics(folder: Path) -> dict[str, float | None]:
    """Read ``{<task>/<name>: value}`` of an evaluation's folder; undefined values are None.

    Raises:
        UserError: a file is malformed.
    """
    found = {}
    for name in (AP_METRICS_FILE, INSTANCE_METRICS_FILE):
        if (folder / name).is_file():
            found.update(read_json(folder / name, dict, _REMEDY)["results"])
    path = folder / SEMANTIC_METRICS_FILE
    if path.is_file():
        found["sem_seg"] = read_json(path, dict, _REMEDY)["metrics"]
    return {f"{task}/{name}": v for task, values in found.items() for name, v in values.items()}


def read_result(run: Run, folder: RunFolder) -> dict:
    """Read a finished run: what ``run.json`` says of it, ``metrics`` ({<task>/<name>: value}),
    ``weights``, the fingerprint of what a training left, and ``cost`` as far as it was measured.

    Raises:
        UserError: a file is malformed.
    """
    record = folder.record
    kept = ("run", "seed", "environment", "git", "config", "evaluated")
    cost = {**_training_cost(run, folder), **(record["cost"] or {})}
    speed_file = results_folder(run, folder) / SPEED_FILE
    if speed_file.is_file():
        speed = read_json(speed_file, dict, _REMEDY)
        cost["inference_images_per_second"] = speed["images_per_second"]
    return {
        **{key: record[key] for key in kept},
        "weights": folder.fingerprint,
        "metrics": read_metrics(results_folder(run, folder)),
        "cost": cost,
    }


def read_results(experiment: Experiment, folder, kept) -> dict[tuple[str, int], dict]:
    """Read all finished runs of an experiment, by (run, seed), with ``drawn``: the metrics of
    instances in samples of the images (:func:`.intervals.draw_metrics`), which takes half a minute
    for a run that is not kept yet.

    Those of another config than the experiment's, and evaluations of other weights than those of
    the training beside them, are left out, with a warning.

    Args:
        folder: of the runs.
        kept: the folder of :func:`keep_results`, for runs that are not there.
    """
    found = {}
    instance_metrics = [name for name in experiment.metrics if not name.startswith("sem_seg/")]
    for run, seed in experiment.select(None, None):
        run_folder = RunFolder(folder, run.name, seed)
        result = _finished_result(run, run_folder)
        kept_result = _kept_result(run, _kept_file(kept, run, seed))
        if result is None:
            result = kept_result
        elif kept_result and kept_result["weights"] == result["weights"]:
            result["drawn"] = kept_result.get("drawn", {})
        elif instance_metrics:
            result["drawn"] = draw_metrics(results_folder(run, run_folder), instance_metrics)
        if result is not None:
            found[run.name, seed] = result
    for run, seed in experiment.select(None, None):
        trained = found.get((run.evaluates, seed), {}).get("weights")
        result = found.get((run.name, seed))
        if result and trained and result["evaluated"] != trained:
            logger.warning(
                f"{run.name}, seed {seed} is left out: it evaluated other weights of "
                f"{run.evaluates} than those of now. Run the experiment again."
            )
            del found[run.name, seed]
    return found


def keep_results(results: dict[tuple[str, int], dict], experiment: Experiment, kept) -> None:
    """Write each result to ``<kept>/<run>/seed<k>.json``, a few kB, to be committed."""
    for run, seed in experiment.select(None, None):
        if (run.name, seed) in results:
            write_json(_kept_file(kept, run, seed), results[run.name, seed], indent=1)


def _kept_file(kept, run: Run, seed: int) -> Path:
    return Path(kept, run.name, f"seed{seed}.json")


def _finished_result(run: Run, folder: RunFolder) -> dict | None:
    record = folder.record
    if record["status"] != "finished" or _has_changed(folder.path, record["config"], run):
        return None
    return read_result(run, folder)


def _kept_result(run: Run, file: Path) -> dict | None:
    if not file.is_file():
        return None
    result = read_json(file, dict, "Delete the file; --table --output writes it anew.")
    return None if _has_changed(file, result["config"], run) else result


def _has_changed(path: Path, settings: dict[str, str], run: Run) -> bool:
    changes = describe_changes(settings, run.cfg)
    if changes:
        logger.warning(f"{path} is left out: it has another config ({'; '.join(changes)}).")
    return bool(changes)


def _training_cost(run: Run, folder: RunFolder) -> dict:
    if run.evaluates is not None:
        return {}
    cost = {"iterations": run.cfg.SOLVER.MAX_ITER}
    curves = read_curves(folder.path / CURVES_FILE)
    if "time" in curves:
        seconds = float(np.median(curves["time"][1]))
        cost["train_images_per_second"] = run.cfg.SOLVER.IMS_PER_BATCH / seconds
    return cost
