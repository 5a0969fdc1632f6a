"""The loop over images: opened ahead, predicted in batches, written while the next are found."""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import UserError, disk_error
from ..files import check_name
from ..images.ome import PartOfImageError
from ..images.source import DEFAULT_CHANNELS, ChannelsError, ImageSource, ReadOptions, open_image
from ..masks.instances import SparseInstances
from ..outputs import OutputContext, output_paths, write_outputs
from .inputs import GONE, InputFile, output_stems
from .progress import Progress
from .records import ImageRecord, Records, write_error

# What is in memory at once, twice: images that are opened together so that some are of one size.
_PIXELS_AT_ONCE = 1 << 25
_BATCHES_AT_ONCE = 4

logger = logging.getLogger(__name__)


class Stems:
    """What the outputs of each file begin with, so that no two write the same file."""

    def __init__(self, files: Sequence[InputFile], records: Records):
        """
        Args:
            files: all inputs, those that are done among them.
            records: of earlier runs, whose names stay.
        """
        used = {(record.stem + record.plane).casefold(): record.source for record in records}
        self._stems = output_stems(files, records.stems(), used)
        self._users = used | {stem.casefold(): key for key, stem in self._stems.items()}

    def __contains__(self, path: Path) -> bool:
        return str(path) in self._stems

    def of(self, file: InputFile, suffixes: Sequence[str]) -> str:
        """Return the stem of a file with these planes.

        If a plane's name is that of another file (``a_z003.tif`` beside plane 3 of ``a.tif``) the
        stem gets digits.
        """
        stem = self._stems[file.key]
        users = [self._users.get((stem + suffix).casefold(), file.key) for suffix in suffixes]
        if any(user != file.key for user in users):
            stem = f"{stem}-{hashlib.sha256(os.fsencode(file.key)).hexdigest()[:8]}"
        self._users |= {(stem + suffix).casefold(): file.key for suffix in suffixes}
        return stem


@dataclass(frozen=True)
class _Plane:
    """An image to predict."""

    file: InputFile
    stamp: tuple[int, int]
    stem: str
    source: ImageSource
    planes: int
    outputs: tuple[str, ...]
    weight: float
    is_last: bool

    @property
    def pixels(self) -> int:
        return self.source.shape[0] * self.source.shape[1]


class BatchRun:
    """The work of one call of :func:`~unet_sharp_det.batch.run.predict_files`.

    Attributes:
        added: the records of this run, in the order of their end.
    """

    def __init__(
        self,
        predictor,
        records: Records,
        stems: Stems,
        outputs: Sequence[str],
        read_options: ReadOptions,
        pixel_size: tuple[float, float] | None,
        log: logging.Logger,
        progress: Progress,
    ):
        """
        Args:
            predictor: a :class:`Predictor`.
            records: of the output folder.
            stems: of its files.
            outputs: names in ``OUTPUTS``.
            read_options: of the images.
            pixel_size: (y, x) in micrometres. None: what each file says.
            log: gets the tracebacks of unexpected errors.
            progress: is told how far it is.
        """
        self.predictor = predictor
        self.records = records
        self.stems = stems
        self.outputs = tuple(outputs)
        self.read_options = read_options
        self.pixel_size = pixel_size
        self.log = log
        self.progress = progress
        self.added: list[ImageRecord] = []
        self._stopped = threading.Event()
        self._total = self._reached = 0.0

    def predict(self, files: Sequence[InputFile], overwrite: bool) -> None:
        """Predict what is not done of these files, or with ``overwrite`` all.

        Raises:
            UserError: the folder can no longer be written to.
        """
        self._total = float(sum(map(_weight, files))) or 1.0
        self.progress.start(len(files))
        pending: Future | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="outputs") as writer:
            try:
                for chunk in self._chunks(self._open(files, overwrite)):
                    found, seconds = self._find(chunk)
                    if pending:
                        pending.result()
                    pending = writer.submit(self._write, chunk, found, seconds)
                if pending:
                    pending.result()
            finally:
                self._stopped.set()
                self.progress.close()

    def _open(self, files: Sequence[InputFile], overwrite: bool) -> Iterator[_Plane]:
        for file in files:
            self.progress.work_on(file.name)
            stamp = file.stamp()
            try:
                sources = self._planes_of(file)
                stem = self.stems.of(file, [source.suffix for source in sources])
                self._check_outputs(stem, sources, overwrite)
            except Exception as error:
                if stamp != GONE:
                    self._forget(file, stamp, None)
                if isinstance(error, PartOfImageError) and error.whole in self.stems:
                    self._forget(file, stamp, set())
                    logger.info(f"{file.name}: is read with {error.whole.name}.")
                else:
                    stem = self.stems.of(file, [])
                    self._fail(ImageRecord(file.key, *stamp, stem=stem), file, error)
                self._advance(_weight(file))
                self.progress.finish_file()
                continue
            self._forget(file, stamp, {source.suffix for source in sources})
            todo = [each for each in sources if overwrite or not self._is_done(file, each)]
            if not todo:
                self._advance(_weight(file))
                self.progress.finish_file()
            for number, source in enumerate(todo, 1):
                yield _Plane(
                    file=file,
                    stamp=stamp,
                    stem=stem,
                    source=source,
                    planes=len(sources),
                    outputs=self._outputs_of(file, source),
                    weight=_weight(file) / len(todo),
                    is_last=number == len(todo),
                )

    def _planes_of(self, file: InputFile) -> list[ImageSource]:
        """Return each plane once, however often ``planes`` names it."""
        try:
            sources = open_image(file.path, self.read_options)
        except ChannelsError as error:
            logger.warning(f"{error} Now channel 0 alone is predicted.")
            first = replace(self.read_options, channels=DEFAULT_CHANNELS)
            sources = open_image(file.path, first)
        count = max(source.series_count for source in sources)
        if count > 1 and self.read_options.series == 0:
            logger.warning(
                f"{file.name}: has {count} series, of which only the first is predicted. Choose "
                f"another with --series, from 0 to {count - 1}."
            )
        return list({source.suffix: source for source in sources}.values())

    def _forget(self, file: InputFile, stamp: tuple[int, int], suffixes: set[str] | None) -> None:
        """Delete results of a file as it was before, and of planes that it no longer has."""
        for record in self.records.of(file.key):
            is_gone = suffixes is not None and record.plane not in suffixes
            if is_gone or (record.size, record.changed) != stamp:
                self.records.forget(record)

    def _is_done(self, file: InputFile, source: ImageSource) -> bool:
        record = self.records.get(file.key, source.suffix)
        return record is not None and self.records.is_done(record, file, self.outputs)

    def _outputs_of(self, file: InputFile, source: ImageSource) -> tuple[str, ...]:
        """All that is asked for, and what there is, so that all are of one prediction."""
        record = self.records.get(file.key, source.suffix)
        former = record.outputs if record else ()
        return *self.outputs, *(name for name in former if name not in self.outputs)

    def _check_outputs(self, stem: str, sources: Sequence[ImageSource], overwrite: bool) -> None:
        """Raise if names of outputs are too long, or would replace a file of the user."""
        folder = self.records.folder
        for source in sources:
            paths = output_paths(folder / f"{stem}{source.suffix}", self.outputs)
            for path in paths:
                check_name(path)
            if not overwrite and (foreign := self.records.find_foreign(paths)):
                raise foreign_file_error(folder, foreign)

    def _chunks(self, planes: Iterator[_Plane]) -> Iterator[list[_Plane]]:
        chunk: list[_Plane] = []
        for plane in planes:
            chunk.append(plane)
            is_full = len(chunk) >= _BATCHES_AT_ONCE * self.predictor.options.batch_size
            if is_full or sum(each.pixels for each in chunk) >= _PIXELS_AT_ONCE:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _find(self, chunk: list[_Plane]) -> tuple[list, list[float]]:
        """Return objects or error, and seconds, of each image."""
        pixels, weight = sum(plane.pixels for plane in chunk), sum(plane.weight for plane in chunk)
        before, done = self._reached, 0
        self.progress.work_on(chunk[0].source.name)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self._advance(before + weight * min(1.0, done / pixels) - self._reached)

        began = time.monotonic()
        try:
            found = self.predictor.predict_many([plane.source for plane in chunk], advance)
        except Exception as error:
            self._advance(before - self._reached)
            if len(chunk) > 1:  # One by one only the one that it is about fails.
                parts = [self._find([plane]) for plane in chunk]
                return [each for (each,), _ in parts], [taken for _, (taken,) in parts]
            found = [error]
        self._advance(before + weight - self._reached)
        seconds = time.monotonic() - began
        return found, [seconds * plane.pixels / pixels for plane in chunk]

    def _write(self, chunk: list[_Plane], found: list, seconds: list[float]) -> None:
        self.records.begin(
            path
            for plane, instances in zip(chunk, found, strict=True)
            if not isinstance(instances, Exception)
            for path in output_paths(self._stem(plane), plane.outputs)
        )
        for plane, instances, taken in zip(chunk, found, seconds, strict=True):
            if self._stopped.is_set():
                return
            self._finish(plane, instances, taken)
            if plane.is_last:
                self.progress.finish_file()

    def _finish(self, plane: _Plane, found: SparseInstances | Exception, seconds: float) -> None:
        height, width = plane.source.shape
        record = ImageRecord(
            plane.file.key,
            *plane.stamp,
            stem=plane.stem,
            plane=plane.source.suffix,
            planes=plane.planes,
            height=height,
            width=width,
        )
        if isinstance(found, Exception):
            self._fail(record, plane.file, found)
            return
        context = OutputContext(
            plane.source, self.predictor.class_names, self.pixel_size or plane.source.pixel_size
        )
        began = time.monotonic()
        try:
            folder = self.records.folder
            paths = write_outputs(found, context, self._stem(plane), plane.outputs)
            areas = found.areas
            self._add(
                replace(
                    record,
                    objects=len(found),
                    mean_area=float(areas.mean()) if len(found) else None,
                    median_area=float(np.median(areas)) if len(found) else None,
                    coverage=float(areas.sum() / plane.pixels),
                    seconds=seconds + time.monotonic() - began,
                    outputs={
                        name: path.relative_to(folder).as_posix()
                        for name, path in zip(plane.outputs, paths, strict=True)
                    },
                )
            )
        except Exception as error:
            if full := disk_error(error):  # Every other image would fail as well.
                raise write_error(folder, full) from error
            self._fail(record, plane.file, error)

    def _stem(self, plane: _Plane) -> Path:
        return self.records.folder / f"{plane.stem}{plane.source.suffix}"

    def _fail(self, record: ImageRecord, file: InputFile, error: Exception) -> None:
        """Record an image that could not be predicted; what it had of an earlier run stays."""
        former = self.records.get(record.source, record.plane)
        reason = str(error)
        if not isinstance(error, UserError):
            reason = f"{type(error).__name__}: {error} (details in predict.log)"
            self.log.error(f"{file.path}{record.plane}", exc_info=error)
        logger.warning(f"{file.name}{record.plane} failed: {reason}")
        failed = replace(record, error=reason, outputs=former.outputs if former else {})
        if (record.size, record.changed) == GONE and former:
            self.added.append(failed)  # Of this run alone: the file may be there again.
        else:
            self._add(failed)

    def _add(self, record: ImageRecord) -> None:
        self.records.add(record)
        self.added.append(record)

    def _advance(self, weight: float) -> None:
        self._reached += weight
        self.progress.reach(self._reached / self._total)


def _weight(file: InputFile) -> int:
    return max(1, file.stamp()[0])


def foreign_file_error(folder: Path, path: Path) -> UserError:
    """Return the error of an output folder that has another's file where an output belongs."""
    return UserError(
        f"--output {folder}: has {path}, which is not of this tool and would be replaced. Name "
        "another folder, or replace it with --overwrite."
    )
