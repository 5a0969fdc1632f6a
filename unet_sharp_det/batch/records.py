"""What was predicted into a folder: a line of JSON per image, by which a stopped run goes on."""

import contextlib
import json
import logging
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath

from ..errors import ConfigError, DatasetError, UserError
from ..files import lock, remove_leftovers, write_text
from .inputs import RECORDS, InputFile, output_stems, with_digits

#: Of all images together.
FILES = ("summary.csv", "coco.json", "predict.json")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageRecord:
    """An image, a plane of a file, that was predicted, failed, or is being predicted.

    Attributes:
        source: the file's absolute path; symbolic links are kept.
        stamp: of the file when it was read, see :meth:`InputFile.stamp`.
        stem: what outputs of the file begin with, below the output folder.
        plane: what the plane appends to it, "" for files of one.
        planes: how many the file has with the options of the run.
        height, width: in pixels.
        outputs: paths of the files below the output folder, by name of the output.
        objects: how many were found. None: the outputs are not complete.
        mean_area, median_area: in pixels; None where there are no objects.
        coverage: the fraction of the image that lies in objects.
        error: why it failed, "" if it did not.
    """

    source: str
    stamp: str
    stem: str
    plane: str = ""
    planes: int = 1
    height: int | None = None
    width: int | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    objects: int | None = None
    mean_area: float | None = None
    median_area: float | None = None
    coverage: float | None = None
    error: str = ""

    @property
    def is_done(self) -> bool:
        """Whether all outputs were written."""
        return self.objects is not None and not self.error


class Records:
    """The records of an output folder, in ``predict_records.jsonl`` there.

    Its first line holds the settings, with which every image of the folder was predicted. A line
    is added before an image's outputs are written, so that those of a run that was killed are known
    as its own, and another one once they are complete. The last line of an image counts; one that
    was cut short is passed over. While it is open another process cannot open it, where the
    system has locks.

    Attributes:
        folder: for outputs.
        settings: of all records.
        is_new: whether no earlier run used the folder.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object]):
        """Use :meth:`open`."""
        self.folder = folder
        self.settings = json.loads(json.dumps(settings))
        self.is_new = not (folder / RECORDS).exists()
        self._by_source: dict[str, dict[str, ImageRecord]] = {}
        self._own: set[str] = set()
        self._file = None
        self._lock = threading.Lock()

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder, settings: Mapping[str, object], overwrite: bool) -> Iterator["Records"]:
        """Read what earlier runs recorded, and lock the folder for the block.

        Nothing is written before :meth:`start`.

        Args:
            folder: for outputs; it is made.
            settings: all that outputs depend on, as JSON values.
            overwrite: delete the results of a run with other settings instead of raising.

        Raises:
            ConfigError: the folder has outputs of other settings, which the error names.
            UserError: the folder cannot be written to, or another process writes to it.
        """
        with _lock(folder):
            records = cls(folder, settings)
            if not records.is_new:
                records._read(overwrite)
            try:
                yield records
            finally:
                if records._file:
                    with contextlib.suppress(OSError):  # What could not be written is told before.
                        records._file.close()

    def start(self, outputs: Collection[str]) -> None:
        """Write the file anew, with the settings and what is known; lines are added from then on.

        Args:
            outputs: names of those of the run.

        Raises:
            UserError: it cannot be written.
        """
        if "coco" in outputs:
            self._own.add("coco.json")
        remove_leftovers(self.folder, {*self._own, *FILES, RECORDS}.__contains__)
        path, header = self.folder / RECORDS, {"settings": self.settings, "own": sorted(self._own)}
        lines = [header, *map(asdict, self)]
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
        self._file = open(path, "a", encoding="utf-8")

    def __iter__(self) -> Iterator[ImageRecord]:
        for planes in self._by_source.values():
            yield from planes.values()

    def of(self, source: Path) -> dict[str, ImageRecord]:
        """Return the records of a file by plane."""
        return dict(self._by_source.get(str(source), {}))

    def is_done(
        self, record: ImageRecord | None, file: InputFile, outputs: Collection[str]
    ) -> bool:
        """Return whether a record has these outputs, of the file as it is now."""
        return (
            record is not None
            and record.is_done
            and record.stamp == file.stamp()
            and set(outputs) <= set(record.outputs)
            and self.has_outputs(record)
        )

    def all_done(self, file: InputFile, outputs: Collection[str]) -> bool:
        """Return whether all planes of a file are done."""
        planes = list(self.of(file.path).values())
        done = all(self.is_done(record, file, outputs) for record in planes)
        return done and bool(planes) and len(planes) == planes[0].planes

    def has_outputs(self, record: ImageRecord) -> bool:
        """Return whether the output files of a record exist."""
        return all((self.folder / path).is_file() for path in record.outputs.values())

    def refuse_foreign(self, paths: Iterable[Path]) -> None:
        """Raise if one of some paths below the folder exists, but was not written by a run."""
        for path in filter(os.path.lexists, paths):
            if path.relative_to(self.folder).as_posix() not in self._own:
                raise UserError(
                    f"--output {self.folder}: has {path}, which is not of this tool and would be "
                    "replaced. Name another folder, or replace it with --overwrite."
                )

    def add(self, *records: ImageRecord) -> None:
        """Add records, or replace those of the same planes; they are on disk when this returns."""
        with self._lock:
            try:
                self._file.writelines(json.dumps(asdict(record)) + "\n" for record in records)
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                raise write_error(self.folder, error) from error
            for record in records:
                self._take(record)

    def forget(self, record: ImageRecord) -> None:
        """Delete the outputs of an image, and its record."""
        self._delete(record.outputs.values())
        self.add(ImageRecord(record.source, record.stamp, record.stem, record.plane))

    def delete_joined_coco(self) -> None:
        """Delete ``coco.json`` if a run wrote it."""
        if "coco.json" in self._own:
            self._delete(["coco.json"])

    def _take(self, record: ImageRecord) -> None:
        """Hold a record in memory; without outputs and error it is of an image that is no more."""
        self._own.update(record.outputs.values())
        planes = self._by_source.setdefault(record.source, {})
        planes[record.plane] = record
        if not record.outputs and not record.error:
            planes.pop(record.plane)

    def _delete(self, names: Iterable[str]) -> None:
        for path in (self.folder / name for name in names):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"{path}: cannot be deleted ({error.strerror}).") from error

    def _read(self, overwrite: bool) -> None:
        path = self.folder / RECORDS
        header, *lines = _read_lines(path)
        self._own.update(header.get("own", []))
        for line in lines:
            self._take(_record(line, path))
        old, new = header["settings"], self.settings
        if not any(self) or old == new:
            return
        if not overwrite:
            differences = "; ".join(
                f"{name} was {old.get(name)}, is {new.get(name)}"
                for name in sorted({*old, *new})
                if old.get(name) != new.get(name)
            )
            raise ConfigError(
                f"--output {self.folder}: has results of other settings: {differences}. Name "
                "another folder, or delete those results with --overwrite."
            )
        self._delete(name for record in self for name in record.outputs.values())
        self._by_source = {}
        self.delete_joined_coco()


class Stems:
    """What the outputs of each file begin with, so that no two write the same file."""

    def __init__(self, files: Sequence[InputFile], records: Records):
        """Choose the stems of files beside those that the records have."""
        known = {Path(record.source): record.stem for record in records}
        self._users = {
            (record.stem + record.plane).casefold(): Path(record.source) for record in records
        }
        self._stems = output_stems(files, known, self._users)
        self._users |= {stem.casefold(): path for path, stem in self._stems.items()}

    def __contains__(self, path: Path) -> bool:
        return path in self._stems

    def of(self, file: InputFile, planes: Sequence[str] = ()) -> str:
        """Return the stem of a file with these planes.

        If a plane's name is that of another file (``a_z003.tif`` beside plane 3 of ``a.tif``) the
        stem gets digits.
        """
        stem = self._stems[file.path]
        names = [(stem + plane).casefold() for plane in planes]
        if any(self._users.get(name, file.path) != file.path for name in names):
            stem = with_digits(stem, file.path)
        self._users |= {(stem + plane).casefold(): file.path for plane in planes}
        return stem


def write_error(folder: Path, error: OSError) -> UserError:
    """Return the error of an output folder that takes no more files."""
    return UserError(
        f"--output {folder}: cannot be written ({error.strerror}). Make room, and the same command "
        "goes on (without --overwrite)."
    )


def _read_lines(path: Path) -> list:
    """Return the values of a file of JSON lines; what is no JSON was cut short."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    lines = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    header = lines[0] if lines and isinstance(lines[0], dict) else {}
    if not isinstance(header.get("settings"), dict):
        raise _damaged(path, "does not begin with settings")
    return lines


def _record(line: object, path: Path) -> ImageRecord:
    with contextlib.suppress(TypeError, AttributeError):
        record = ImageRecord(**line)
        if all(map(_is_inside, [record.stem, *record.outputs.values()])):
            return record
    raise _damaged(path, "has a line that is no record of this tool")


def _is_inside(path: str) -> bool:
    """Return whether a relative path, whose name may hold anything, stays below its folder."""
    return not PurePath(path).is_absolute() and ".." not in PurePath(path).parts


def _damaged(path: Path, fault: str) -> DatasetError:
    return DatasetError(
        f"{path}: {fault}. Remove it and use --overwrite, by which all images are predicted anew."
    )


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which ends with the process whatever ends it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".predict.lock", "w")
    except OSError as error:
        raise UserError(
            f"--output {folder}: cannot be written to ({error.strerror}). Choose another place."
        ) from error
    with file:
        try:
            lock(file.fileno())
        except BlockingIOError:
            raise UserError(
                f"--output {folder}: another process is writing its predictions there. Wait for "
                "its end, or choose another folder."
            ) from None
        except OSError as error:
            logger.warning(
                f"--output {folder}: cannot be locked ({error.strerror}). Let no other process "
                "write its predictions there."
            )
        yield
