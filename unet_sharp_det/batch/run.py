"""Prediction of many image files into a folder, which goes on where it was stopped."""

import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import ConfigError, PrintableFormatter, UserError
from ..images.source import ReadOptions
from ..outputs import output_paths
from . import summary
from .batch_run import BatchRun, Stems, foreign_file_error
from .inputs import InputFile, find_files
from .progress import Progress
from .records import FILES, ImageRecord, Records

DEFAULT_OUTPUTS = ("labels", "overlay", "table")
LOG = "predict.log"

# Options that change how long it takes and what is refused, but not what is found.
_OF_NO_EFFECT = {"batch_size", "max_pixels"}


@dataclass(frozen=True)
class RunSummary:
    """What :func:`predict_files` did.

    Attributes:
        output: the folder.
        predicted: images, i.e. planes of files, that were predicted now.
        skipped: files that were done before.
        failed: the records of the images that failed now.
        objects: found now.
        seconds: that it took.
        not_read: files in the folders that are of a microscope's format that is not read.
    """

    output: Path
    predicted: int
    skipped: int
    failed: tuple[ImageRecord, ...]
    objects: int
    seconds: float
    not_read: tuple[Path, ...] = ()


def predict_files(
    predictor,
    inputs: Iterable,
    output,
    *,
    outputs: Sequence[str] = DEFAULT_OUTPUTS,
    read_options: ReadOptions | None = None,
    pixel_size: tuple[float, float] | None = None,
    recursive: bool = False,
    overwrite: bool = False,
    weights: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> RunSummary:
    """Find the objects in image files, and write them to a folder.

    An image that fails does not stop the others. What is done stays when the run is stopped; the
    same call goes on with the rest, and tries again what failed. Images that have changed, or lack
    one of ``outputs``, are predicted anew.

    Beside the files of each image the folder gets ``summary.csv``, for the output "coco"
    ``coco.json`` of all images, ``predict.json`` (settings and versions), ``predict.log``, and
    ``predict_records.jsonl``, by which a run goes on. The former three are of all images of the
    folder that were predicted by this call or earlier ones.

    Args:
        predictor: a :class:`Predictor`.
        inputs: files, folders and patterns, see :func:`find_files`.
        output: the folder; it holds results of one model with one set of options.
        outputs: names in ``OUTPUTS``.
        read_options: of files with several planes or channels.
        pixel_size: (y, x) in micrometres. None: what each file says.
        recursive: take the folders below a folder too.
        overwrite: predict all inputs anew. Results of other settings in the folder are deleted.
        weights: what identifies the model, such as digests of its files, by name. Without it
            another model's results in the folder are not noticed.
        progress: is told how far it is.

    Raises:
        UserError: there are no images, the folder has results of other settings, other files of
            the same names (an image that turns out to have several planes fails by itself then),
            or cannot be written, the disk is full, or an option is unusable.
    """
    began, started = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
    if not os.fspath(output):
        raise ConfigError("--output: is empty (a variable that is not set?). Name a folder.")
    output, read_options = Path(output), read_options or ReadOptions()
    _check(output, outputs, pixel_size)
    not_read: list[Path] = []
    files = find_files(inputs, recursive=recursive, output=output, not_read=not_read)
    settings = _settings(predictor, read_options, pixel_size, weights)
    with contextlib.ExitStack() as open_files:
        records = open_files.enter_context(Records.open(output, settings, overwrite))
        stems = Stems(files, records)
        todo = [file for file in files if overwrite or not records.all_done(file, outputs)]
        if not overwrite:
            _refuse_foreign_files(todo, stems, records, outputs)
        records.start()
        log = open_files.enter_context(_log_file(output))
        skipped = len(files) - len(todo)
        log.info(f"{len(files)} files, {skipped} done before. Settings: {settings}")
        run = BatchRun(
            predictor,
            records,
            stems,
            outputs,
            read_options,
            pixel_size,
            log,
            progress or Progress(),
        )
        is_finished = False
        try:
            run.predict(todo, overwrite)
            is_finished = True
        finally:
            result = _result(output, run, skipped, time.monotonic() - began, not_read)
            about = {
                "started": started,
                "finished": is_finished,
                "files": len(files),
                "skipped_files": skipped,
                "predicted_images": result.predicted,
                "failed_images": len(result.failed),
                "not_read_files": len(result.not_read),
                "objects": result.objects,
                "seconds": round(result.seconds, 3),
                "outputs": list(outputs),
                "device": str(getattr(predictor, "device", "unknown")),
                "batch_size": predictor.options.batch_size,
                "settings": settings,
            }
            _write_of_all(records, about)
            log.info(f"{'ended' if is_finished else 'stopped'}: {result.predicted} predicted")
    return result


def _check(output: Path, outputs: Sequence[str], pixel_size) -> None:
    if not outputs:
        raise ConfigError("--outputs: name at least one.")
    output_paths(output / "name", outputs)
    if pixel_size is not None and not all(0 < size < float("inf") for size in pixel_size):
        raise ConfigError(f"--pixel-size must be above 0 micrometres, not {pixel_size}.")


def _settings(predictor, read_options: ReadOptions, pixel_size, weights) -> dict[str, object]:
    """Return what outputs depend on, by the names of the options."""
    found = {
        **(weights or {}),
        "image_format": predictor.image_format,
        "stretch_contrast": predictor.stretch_contrast,
        "class_names": list(predictor.class_names),
        **asdict(predictor.options),
        **asdict(read_options),
        "pixel_size": pixel_size,
    }
    return {name: value for name, value in found.items() if name not in _OF_NO_EFFECT}


def _refuse_foreign_files(
    files: Sequence[InputFile], stems: Stems, records: Records, outputs: Sequence[str]
) -> None:
    """Raise before anything is written if it would replace a file of the user.

    Of a file with several planes the outputs' names are not known yet, see :class:`BatchRun`.
    """
    paths = [records.folder / name for name in FILES] if records.is_new else []
    for file in files:
        if not records.of(file.key):
            paths += output_paths(records.folder / stems.of(file, [""]), outputs)
    if foreign := records.find_foreign(paths):
        raise foreign_file_error(records.folder, foreign)


def _result(
    output: Path, run: BatchRun, skipped: int, seconds: float, not_read: Sequence[Path]
) -> RunSummary:
    failed = tuple(record for record in run.added if record.error)
    objects = sum(record.objects or 0 for record in run.added)
    predicted, unread = len(run.added) - len(failed), tuple(dict.fromkeys(not_read))
    return RunSummary(output, predicted, skipped, failed, objects, seconds, unread)


def _write_of_all(records: Records, about: Mapping[str, object]) -> None:
    """Write the files of the folder as a whole; of a stopped run those that are quick."""
    kept = summary.in_order(records)
    # An error here must not hide what stopped the run.
    errors = () if about["finished"] else (UserError, OSError)
    with contextlib.suppress(*errors):
        summary.write_summary(records.folder, kept)
        folder = summary.common_folder(kept)
        summary.write_run(records.folder, {**about, "common_folder": folder})
        if about["finished"]:
            _join_coco(records, kept, about["outputs"])


def _join_coco(records: Records, kept: Sequence[ImageRecord], outputs: Sequence[str]) -> None:
    """Write ``coco.json`` of all images that have the output, those of earlier runs too."""
    if "coco" in outputs or any("coco" in record.outputs for record in kept):
        records.begin([records.folder / "coco.json"])
        summary.write_coco(records.folder, kept)
    else:
        records.delete_joined_coco()


@contextlib.contextmanager
def _log_file(output: Path) -> Iterator[logging.Logger]:
    """Append the package's messages to the log for the block; return a logger to it alone."""
    handler = logging.FileHandler(output / LOG, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s: %(message)s"))
    package = logging.getLogger("unet_sharp_det")
    log = logging.Logger("predict")
    log.addHandler(handler)
    package.addHandler(handler)
    try:
        yield log
    finally:
        package.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()
