"""What a finished run gave and cost, from its folder, or from the small file kept of it."""

import logging
from pathlib import Path

import numpy as np

from benchmarks.experiments.experiment import Experiment, Run
from benchmarks.experiments.metrics import read_metrics
from benchmarks.experiments.run_folder import RunFolder
from benchmarks.experiments.settings import describe_changes, own_settings
from unet_sharp_det.errors import UserError
from unet_sharp_det.files import read_json, write_json
from unet_sharp_det.report.environment import fingerprint
from unet_sharp_det.report.training import CURVES_FILE, read_curves
from unet_sharp_det.training import STOPPED_STATUS
from unet_sharp_det.training.resources import DEVICE_MEMORY_FILE, SPEED_FILE

logger = logging.getLogger(__name__)

_REMEDY = "Delete its folder 'inference' and run the experiment again, which evaluates anew."
_KEPT_REMEDY = "Delete the file; --table --output writes it anew where the run's folder is."
_MEMORY_REMEDY = "Delete the file; the table is then without the memory of the GPU."


def is_evaluated(folder) -> bool:
    """Whether an evaluation wrote its metrics into ``folder``, and they can be read."""
    try:
        return bool(read_metrics(folder))
    except UserError:
        return False


def evaluated_weights(run: Run, trained: RunFolder | None) -> dict | None:
    """What a run evaluates: ``{"run": name, "weights": fingerprint}``, "" for weights that are not
    there; None: the run is a training."""
    if trained is None:
        return None
    return {"run": run.evaluates, "weights": fingerprint(trained.final_weights)}


def is_done(run: Run, folder: RunFolder, evaluated: dict | None) -> bool:
    """Whether a run is finished, its metrics are there, and they are of the weights of now.

    Args:
        evaluated: of :func:`evaluated_weights`.
    """
    if folder.status != "finished" or not is_evaluated(folder.path / run.results_folder):
        return False
    return not _is_outdated(folder.record.get("evaluated"), evaluated)


def read_result(run: Run, folder: RunFolder) -> dict:
    """Read a finished run.

    Returns:
        dict: ``{"run", "seed", "config", "git", "environment", "weights", "evaluated", "metrics":
        {<task>/<name>: value}, "cost": {...}}``. ``config`` has the keys that differ from the
        defaults, ``git`` a state of the code for each that a session ran with, ``environment`` is
        that of the last one, ``weights`` the fingerprint of what a training left, ``evaluated``
        of :func:`evaluated_weights`. Of the costs are there, as far as they were measured:
        ``iterations``, ``train_images_per_second`` (median over the log),
        ``inference_images_per_second``, ``cpu_s``, ``wall_s`` (sums over the sessions: start,
        training, evaluation; of runs that had to do none of it twice but the start),
        ``sessions``, ``peak_memory_mib`` (resident set) and ``peak_device_memory_mib`` (of the
        GPU, by torch).

    Raises:
        UserError: a file is malformed.
    """
    record, results = folder.record, folder.path / run.results_folder
    return {
        **{key: record[key] for key in ("run", "seed", "environment")},
        "git": _states(record),
        "config": own_settings(folder.config),
        "weights": fingerprint(folder.final_weights),
        "evaluated": record.get("evaluated"),
        "metrics": read_metrics(results),
        "cost": {**_training(run, folder), **_inference(results), **_sessions(record, folder)},
    }


def read_results(experiment: Experiment, folder, kept) -> dict[tuple[str, int], dict]:
    """Read all finished runs of an experiment, by (run, seed).

    Those of another config than the experiment's, and evaluations of other weights than those of
    the training beside them, are left out, with a warning.

    Args:
        folder: of the runs.
        kept: the folder of :func:`keep_results`, for runs that are not there.
    """
    found = {}
    for run, seed in experiment.select(None, None):
        result = _finished_result(run, run_folder_of(folder, run, seed))
        result = result or _kept_result(run, _kept_file(kept, run, seed))
        if result is not None:
            found[run.name, seed] = result
    return {key: result for key, result in found.items() if _is_of_its_weights(result, found)}


def keep_results(results: dict[tuple[str, int], dict], experiment: Experiment, kept) -> None:
    """Write each result to ``<kept>/<run>/seed<k>.json``, a few kB, to be committed."""
    for run, seed in experiment.select(None, None):
        if (run.name, seed) in results:
            write_json(_kept_file(kept, run, seed), results[run.name, seed], indent=1)


def run_folder_of(folder, run: Run, seed: int) -> RunFolder:
    """The folder of a run and seed below that of the experiment."""
    return RunFolder(Path(folder) / run.name / f"seed{seed}")


def _kept_file(kept, run: Run, seed: int) -> Path:
    return Path(kept) / run.name / f"seed{seed}.json"


def _finished_result(run: Run, folder: RunFolder) -> dict | None:
    if folder.status != "finished" or _has_changed(folder.path, folder.config_changes(run.cfg)):
        return None
    return read_result(run, folder)


def _kept_result(run: Run, file: Path) -> dict | None:
    if not file.is_file():
        return None
    result = read_json(file, dict, _KEPT_REMEDY)
    changes = describe_changes(result.get("config", {}), run.cfg)
    return None if _has_changed(file, changes) else result


def _is_of_its_weights(result: dict, found: dict[tuple[str, int], dict]) -> bool:
    evaluated = result.get("evaluated")
    trained = evaluated and found.get((evaluated["run"], result["seed"]))
    if not trained:
        return True
    now = {"run": evaluated["run"], "weights": trained.get("weights", "")}
    if is_outdated := _is_outdated(evaluated, now):
        logger.warning(
            f"{result['run']}, seed {result['seed']} is left out: it evaluated other weights of "
            f"{evaluated['run']} than those of now. Run the experiment again."
        )
    return not is_outdated


def _is_outdated(evaluated: dict | None, now: dict | None) -> bool:
    """Whether other weights were evaluated; not if they are no longer there to compare with."""
    return evaluated != now and not (evaluated and now and now == {**evaluated, "weights": ""})


def _has_changed(path: Path, changes: list[str]) -> bool:
    if changes:
        logger.warning(f"{path} is left out: it has another config ({'; '.join(changes)}).")
    return bool(changes)


def _states(record: dict) -> list[dict]:
    """The states of the code that the sessions ran with, each once."""
    states = [session["git"] for session in record["sessions"]]
    return [state for index, state in enumerate(states) if state not in states[:index]]


def _training(run: Run, folder: RunFolder) -> dict:
    if run.evaluates is not None:
        return {}
    curves = read_curves(folder.path / CURVES_FILE)
    cost = {"iterations": run.cfg.SOLVER.MAX_ITER}
    if "time" in curves:
        seconds = float(np.median(curves["time"][1]))
        cost["train_images_per_second"] = run.cfg.SOLVER.IMS_PER_BATCH / seconds
    return cost


def _inference(results: Path) -> dict:
    path = results / SPEED_FILE
    if not path.is_file():
        return {}
    return {"inference_images_per_second": read_json(path, dict, _REMEDY)["images_per_second"]}


def _sessions(record: dict, folder: RunFolder) -> dict:
    sessions = [session for session in record["sessions"] if not _did_nothing(session)]
    cost = {"sessions": len(sessions)}
    if not all("cpu_s" in session for session in sessions):
        return cost  # One was killed with its runner: nobody measured it.
    if not any(_is_repeated(session) for session in sessions[:-1]):
        cost["cpu_s"] = sum(session["cpu_s"] for session in sessions)
        cost["wall_s"] = sum(session["wall_s"] for session in sessions)
    cost["peak_memory_mib"] = max(session["peak_memory_mib"] for session in sessions)
    path = folder.path / DEVICE_MEMORY_FILE
    if path.is_file():
        cost["peak_device_memory_mib"] = read_json(path, dict, _MEMORY_REMEDY)["peak_mib"]
    return cost


def _did_nothing(session: dict) -> bool:
    """Whether it failed before it began to train."""
    return session["end"] == "failed" and "startup_s" not in session


def _is_repeated(session: dict) -> bool:
    """Whether the next session did again what this one had: its evaluation, or iterations since
    the last checkpoint."""
    has_checkpoint = session.get("exit_status", STOPPED_STATUS) == STOPPED_STATUS
    return "evaluation_s" in session or session["end"] == "failed" or not has_checkpoint
