"""Prediction of many image files into a folder, which goes on where it was stopped."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import numpy as np
from tqdm import tqdm

from ..errors import ConfigError, PrintableFormatter, UserError, disk_error, printable
from ..files import check_name
from ..images.ome import PartOfImageError
from ..images.source import ReadOptions
from ..outputs import DEFAULT_OUTPUTS, output_paths
from .images import ImageWork
from .inputs import GONE, InputFile, Stems, find_files
from .linking import check_link, link_stacks
from .records import ImageRecord, Records, write_error
from .summary import RunSummary, write_summaries
from .units import Outcome, Plane, run_here

_SECONDS_BETWEEN_LINES = 30.0

logger = logging.getLogger(__name__)


def predict_files(
    predictor,
    inputs: Iterable,
    output,
    *,
    outputs: Sequence[str] = DEFAULT_OUTPUTS,
    read_options: ReadOptions | None = None,
    pixel_size: tuple[float, float] | None = None,
    link: float | None = None,
    recursive: bool = False,
    overwrite: bool = False,
    weights: Mapping[str, str] | None = None,
    progress: TextIO | None = None,
    run_units: Callable = run_here,
) -> RunSummary:
    """Find the objects in image files, and write them to a folder.

    An image that fails does not stop the others. What is done stays when the run is stopped; the
    same call goes on with the rest, and tries again what failed. Images that have changed, or lack
    one of ``outputs``, are predicted anew. docs/OUTPUTS.md lists the files of the folder.

    Args:
        predictor: a :class:`Predictor`.
        inputs: files, folders and patterns, see :func:`find_files`.
        output: the folder; it holds results of one model with one set of options.
        outputs: names in ``OUTPUTS``.
        read_options: of files with several planes or channels.
        pixel_size: (y, x) in micrometres. None: what each file says.
        link: of stacks, also write a label stack in which objects of neighbouring slices of this
            IoU or more are one; see :mod:`.linking`. None: write none.
        recursive: take the folders below a folder too.
        overwrite: predict all inputs anew. Results of other settings in the folder are deleted.
        weights: what identifies the model, such as digests of its files, by name. Without it
            another model's results in the folder are not noticed.
        progress: stream for a bar.
        run_units: who does the work: this process, or a :class:`.dask_units.DaskUnits`.

    Raises:
        UserError: there are no images, the folder has results of other settings or other files of
            the same names, it cannot be written, or an option is unusable.
    """
    _check_options(output, outputs, pixel_size)
    check_link(link, outputs)
    result = RunSummary(Path(output))
    files = find_files(inputs, recursive=recursive, output=output, not_read=result.not_read)
    work = ImageWork(predictor, read_options or ReadOptions(), pixel_size)
    settings = {**(weights or {}), **work.settings}
    run_files(work, files, result, settings, outputs, overwrite, progress, link, run_units)
    return result


def run_files(
    work,
    files: Sequence[InputFile],
    result: RunSummary,
    settings: Mapping[str, object],
    outputs: Sequence[str],
    overwrite: bool,
    progress: TextIO | None,
    link: float | None = None,
    run_units: Callable = run_here,
) -> None:
    """Do a work on files that are not done, and add to ``result`` what was done.

    Args:
        work: an :class:`ImageWork`, or what has its methods.
        files: names what is written by its ``output_paths``.
        settings: all that outputs depend on, as JSON values.
        outputs, overwrite, progress, link, run_units: see :func:`predict_files`.
    """
    with Records.open(result.output, settings, overwrite) as records:
        stems = Stems(files, records)
        todo = [file for file in files if not records.all_done(file, outputs)]
        result.skipped = len(files) - len(todo)
        for file in todo:  # The names of a file's planes are known once it is open.
            if not records.of(file.path):
                stem = stems.of(file, [""])
                records.refuse_foreign(file.output_paths(result.output / stem, outputs))
        records.start(outputs)
        with _log_file(result.output) as log, _bar(todo, progress) as bar:
            log.info(f"{len(files)} files, {result.skipped} done before. Settings: {settings}")
            run = _Run(work, records, stems, outputs, log, bar, result)
            run.predict(todo, run_units)
        if link is not None:
            link_stacks(records, outputs, link)


def _check_options(output, outputs: Sequence[str], pixel_size) -> None:
    if not os.fspath(output):
        raise ConfigError("--output: is empty (a variable that is not set?). Name a folder.")
    if not outputs:
        raise ConfigError("--outputs: name at least one.")
    output_paths(Path(output) / "name", outputs)
    if pixel_size is not None and not all(0 < size < float("inf") for size in pixel_size):
        raise ConfigError(f"--pixel-size must be above 0 micrometres, not {pixel_size}.")


@dataclass(frozen=True)
class _Run:
    """A run over files: opens planes, and records what becomes of them."""

    work: ImageWork
    records: Records
    stems: Stems
    outputs: Sequence[str]
    log: logging.Logger  # gets the tracebacks of unexpected errors
    bar: tqdm  # of the files' bytes, so that an hour's image does not count like a second's
    result: RunSummary  # what is done is added to it

    def predict(self, files: Sequence[InputFile], run_units) -> None:
        """Predict files, and write what the folder holds as a whole, after a stop as well."""
        try:
            run_units(self.work, self.records.folder, self._open(files), self)
        except BaseException:
            with contextlib.suppress(UserError, OSError):  # They must not hide what stopped it.
                self._sum_up(finished=False)
            raise
        self._sum_up(finished=True)

    def advance(self, weight: float) -> None:
        self.bar.update(weight)

    def begin(self, plane: Plane) -> None:
        self.records.add(plane.record)

    def end(self, plane: Plane, outcome: Outcome) -> None:
        if not isinstance(outcome, Exception):
            self._record(plane, outcome)
        elif full := disk_error(outcome):  # Every other image would fail as well.
            raise write_error(self.records.folder, full) from outcome
        else:
            self._fail_to_find(plane, outcome)

    def _open(self, files: Sequence[InputFile]) -> Iterator[Plane]:
        """Yield the planes that are not done."""
        for number, file in enumerate(files, 1):
            self.bar.set_postfix_str(f"{number}/{len(files)} files, {printable(file.name)}", False)
            stamp, weight, planes = file.stamp(), _weight(file), []
            try:
                planes = self._plan(file, stamp, weight)
            except Exception as error:
                self._fail_to_open(file, stamp, error)
            if not planes:
                self.bar.update(weight)
            yield from planes

    def _plan(self, file: InputFile, stamp: str, weight: float) -> list[Plane]:
        """Look at a file, choose names of outputs, and forget results of it as it was before."""
        outlines = self.work.outline(file)
        stem = self.stems.of(file, list(outlines))
        former = self.records.of(file.path)
        todo = []
        for plane, outline in outlines.items():
            known = former.get(plane)
            if self.records.is_done(known, stamp, self.outputs):
                continue
            # All that is asked for, and what there is, so that all are of one prediction.
            kept = known.outputs if known and known.stamp == stamp else ()
            names = list(dict.fromkeys((*self.outputs, *kept)))
            paths = file.output_paths(self.records.folder / f"{stem}{plane}", names)
            for path in paths:
                check_name(path)
            self.records.refuse_foreign(paths)
            relative = [path.relative_to(self.records.folder).as_posix() for path in paths]
            outputs = dict(zip(names, relative, strict=True))
            record = ImageRecord(
                *(str(file.path), stamp, stem, plane, len(outlines), *outline.shape[-2:]), outputs
            )
            todo.append((record, outline))
        self.records.forget(file, lambda old: old.plane not in outlines or old.stamp != stamp)
        return [Plane(record, weight / len(todo), file.name, outline) for record, outline in todo]

    def _fail_to_open(self, file: InputFile, stamp: str, error: Exception) -> None:
        is_part = isinstance(error, PartOfImageError) and error.whole in self.stems
        if stamp != GONE:
            self.records.forget(file, lambda old: is_part or old.stamp != stamp)
        if is_part:
            logger.info(f"{file.name}: is read with {error.whole.name}.")
        else:
            self._fail(ImageRecord(str(file.path), stamp, self.stems.of(file)), file.name, error)

    def _fail_to_find(self, plane: Plane, error: Exception) -> None:
        record, name = plane.record, plane.name
        try:
            name = plane.source.name
        except Exception as cause:  # The file was not opened before, or by a worker.
            record, error = ImageRecord(record.source, record.stamp, record.stem), cause
        self._fail(record, name, error)

    def _record(self, plane: Plane, areas: np.ndarray) -> None:
        done = replace(
            plane.record,
            objects=len(areas),
            mean_area=float(areas.mean()) if len(areas) else None,
            median_area=float(np.median(areas)) if len(areas) else None,
            coverage=float(areas.sum() / plane.pixels),
        )
        self.records.add(done)
        self.result.predicted += 1
        self.result.objects += len(areas)

    def _fail(self, record: ImageRecord, name: str, error: Exception) -> None:
        """Record an image that could not be predicted; what it had of an earlier run stays."""
        reason = str(error)
        if not isinstance(error, UserError):
            reason = f"{type(error).__name__}: {error} (details in predict.log)"
            self.log.error(name, exc_info=error)
        logger.warning(f"{name} failed: {reason}")
        former = self.records.of(Path(record.source)).get(record.plane)
        failed = replace(record, error=reason, outputs=former.outputs if former else {})
        self.result.failed.append(failed)
        if record.stamp != GONE or former is None:  # The file may be there again.
            self.records.add(failed)

    def _sum_up(self, finished: bool) -> None:
        self.records.remove_leftovers()
        self.result.seconds = time.time() - self.result.started
        device = str(getattr(self.work.predictor, "device", "unknown"))
        write_summaries(self.records, self.outputs, self.result, finished, device)
        self.log.info(f"{'ended' if finished else 'stopped'}: {self.result.predicted} predicted")


def _weight(file: InputFile) -> int:
    """Return the bytes of a file, by which it counts in the progress."""
    return max(1, int((file.stamp() or "0-").partition("-")[0]))


def _bar(files: Sequence[InputFile], stream: TextIO | None) -> tqdm:
    """Return a bar, which is drawn anew all the time on a terminal, elsewhere now and then."""
    return tqdm(
        total=sum(map(_weight, files)),
        file=stream,
        disable=stream is None,
        bar_format="{percentage:3.0f}%|{bar:20}| [{elapsed}<{remaining}]{postfix}",
        dynamic_ncols=True,
        smoothing=0.0,
        mininterval=0.1 if stream and stream.isatty() else _SECONDS_BETWEEN_LINES,
    )


@contextlib.contextmanager
def _log_file(output: Path) -> Iterator[logging.Logger]:
    """Append the package's messages to the log for the block; return a logger to it alone."""
    handler = logging.FileHandler(
        output / "predict.log", encoding="utf-8", errors="backslashreplace"
    )
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
