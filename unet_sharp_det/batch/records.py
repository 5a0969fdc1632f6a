"""What was predicted into a folder: a line per image, so that a stopped run can go on."""

import contextlib
import json
import logging
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePath

from ..errors import ConfigError, DatasetError, UserError
from ..files import lock, remove_leftovers, write_text
from .inputs import RECORDS, InputFile

#: Of all images together.
FILES = ("summary.csv", "coco.json", "predict.json")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageRecord:
    """An image, a plane of a file, that was predicted or failed.

    Attributes:
        source: the file's absolute path; symbolic links are kept.
        size, changed: of the file, in bytes and nanoseconds, when it was read.
        stem: what outputs of the file begin with, below the output folder.
        plane: what the plane appends to it, "" for files of one.
        planes: how many the file has with the options of the run.
        height, width, objects, mean_area, median_area, coverage: in pixels; coverage is the
            fraction of the image that lies in objects. None where there are no objects or it
            failed.
        seconds: of prediction and writing; the images of a batch share its time equally.
        outputs: paths of the files below the output folder, by name of the output.
        error: why it failed, "" if it did not.
        is_forgotten: there is no such image any more.
    """

    source: str
    size: int
    changed: int
    stem: str
    plane: str = ""
    planes: int = 1
    height: int | None = None
    width: int | None = None
    objects: int | None = None
    mean_area: float | None = None
    median_area: float | None = None
    coverage: float | None = None
    seconds: float = 0.0
    outputs: dict[str, str] = field(default_factory=dict)
    error: str = ""
    is_forgotten: bool = False


class Records:
    """The records of an output folder, in ``predict_records.jsonl`` there.

    Its first line holds the settings, with which every image of the folder was predicted. A line
    is added once an image's outputs are complete, so that after a crash each line stands for whole
    files; a line that was cut short is passed over. Other lines hold the files that were about to
    be written, so that those of a run that was killed are known as its own. While it is open
    another process cannot open it, where the system has locks.

    Attributes:
        folder: for outputs.
        settings: of all records.
        is_new: whether no earlier run used the folder.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object]):
        """Use :meth:`open`."""
        self.folder = folder
        self.settings = dict(settings)
        self._by_source: dict[str, dict[str, ImageRecord]] = {}
        self._begun: set[str] = set()
        self.is_new = True
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
            overwrite: forget the records of a run with other settings instead of raising.

        Raises:
            ConfigError: the folder has outputs of other settings, which the error names.
            UserError: the folder cannot be written to, or another process writes to it.
        """
        records = cls(Path(folder), settings)
        with _lock(records.folder):
            records._read(overwrite)
            try:
                yield records
            finally:
                if records._file:
                    with contextlib.suppress(OSError):  # What could not be written is told before.
                        records._file.close()

    def start(self) -> None:
        """Write the file anew, with the settings and what is known; lines are added from then on.

        Raises:
            UserError: it cannot be written.
        """
        remove_leftovers(self.folder, {*self._begun, *FILES, RECORDS}.__contains__)
        path = self.folder / RECORDS
        recorded = {name for record in self for name in record.outputs.values()}
        begun = [name for name in self._begun - recorded if os.path.lexists(self.folder / name)]
        current = [{"settings": self.settings}, {"begun": sorted(begun)}, *map(asdict, self)]
        write_text(path, "".join(json.dumps(line) + "\n" for line in current))
        self._file = open(path, "a", encoding="utf-8")

    def __iter__(self) -> Iterator[ImageRecord]:
        for planes in self._by_source.values():
            yield from planes.values()

    def stems(self) -> dict[str, str]:
        """Return the stem of each source."""
        return {record.source: record.stem for record in self}

    def get(self, source: str, plane: str) -> ImageRecord | None:
        """Return the record of a plane."""
        return self._by_source.get(source, {}).get(plane)

    def of(self, source: str) -> list[ImageRecord]:
        """Return the records of a file."""
        return list(self._by_source.get(source, {}).values())

    def is_done(self, record: ImageRecord, file: InputFile, outputs: Collection[str]) -> bool:
        """Return whether a record has these outputs, of the file as it is now."""
        return (
            not record.error
            and (record.size, record.changed) == file.stamp()
            and set(outputs) <= set(record.outputs)
            and self.has_outputs(record)
        )

    def all_done(self, file: InputFile, outputs: Collection[str]) -> bool:
        """Return whether all planes of a file are done."""
        planes = self.of(file.key)
        done = all(self.is_done(record, file, outputs) for record in planes)
        return done and bool(planes) and len(planes) == planes[0].planes

    def has_outputs(self, record: ImageRecord) -> bool:
        """Return whether the output files of a record exist."""
        return all((self.folder / path).is_file() for path in record.outputs.values())

    def find_foreign(self, paths: Iterable[Path]) -> Path | None:
        """Return the first of some paths that exists, but was not written by a run."""
        for path in filter(os.path.lexists, paths):
            name = path.relative_to(self.folder).as_posix()
            if name not in self._begun:
                return path
        return None

    def begin(self, paths: Iterable[Path]) -> None:
        """Note that these files are about to be written; that is on disk when this returns."""
        names = {path.relative_to(self.folder).as_posix() for path in paths}
        with self._lock:
            self._append({"begun": sorted(names)})
            self._begun |= names

    def add(self, record: ImageRecord) -> None:
        """Add a record, or replace that of the same plane; it is on disk when this returns."""
        with self._lock:
            self._append(asdict(record))
            self._by_source.setdefault(record.source, {})[record.plane] = record

    def forget(self, record: ImageRecord) -> None:
        """Delete the outputs of an image, and its record."""
        with self._lock:
            self._delete_outputs(record)
            self._append(asdict(replace(record, is_forgotten=True)))
            self._by_source[record.source].pop(record.plane)

    def delete_joined_coco(self) -> None:
        """Delete ``coco.json`` if a run wrote it."""
        if "coco.json" in self._begun:
            (self.folder / "coco.json").unlink(missing_ok=True)

    def _append(self, line: dict) -> None:
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(self.folder, error) from error

    def _delete_outputs(self, record: ImageRecord) -> None:
        for path in record.outputs.values():
            try:
                (self.folder / path).unlink(missing_ok=True)
            except OSError as error:
                message = f"{self.folder / path}: cannot be deleted ({error.strerror})."
                raise UserError(message) from error

    def _read(self, overwrite: bool) -> None:
        path = self.folder / RECORDS
        self.is_new = not path.exists()
        header, *lines = _read_lines(path) or [{"settings": {}}]
        for line in lines:
            if isinstance(line, dict) and isinstance(line.get("begun"), list):
                self._begun.update(name for name in line["begun"] if isinstance(name, str))
                continue
            record = _record(line, path)
            self._begun.update(record.outputs.values())
            planes = self._by_source.setdefault(record.source, {})
            if record.is_forgotten:
                planes.pop(record.plane, None)
            else:
                planes[record.plane] = record
        differences = _differences(header["settings"], self.settings)
        if any(self) and differences:
            if not overwrite:
                raise ConfigError(
                    f"--output {self.folder}: has results of other settings: "
                    f"{'; '.join(differences)}. Name another folder, or delete those results with "
                    "--overwrite."
                )
            for record in self:
                self._delete_outputs(record)
            self._by_source = {}
            self.delete_joined_coco()


def write_error(folder: Path, error: OSError) -> UserError:
    """Return the error of an output folder that takes no more files."""
    return UserError(
        f"--output {folder}: cannot be written ({error.strerror}). What is done stays; make room, "
        "and the same command goes on (without --overwrite)."
    )


def _read_lines(path: Path) -> list[dict]:
    """Return the objects of a file of JSON lines; what is no JSON was cut short."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    lines = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    header = lines[0] if lines else None
    if not isinstance(header, dict) or not isinstance(header.get("settings"), dict):
        raise DatasetError(
            f"{path}: is no file of this tool, or is damaged: it does not begin with settings. "
            "Remove it and use --overwrite, by which all images are predicted anew."
        )
    return lines


def _record(line: object, path: Path) -> ImageRecord:
    try:
        record = ImageRecord(**line)
        inside = all(map(_is_inside, [record.stem, *record.outputs.values()]))
    except (TypeError, AttributeError):
        inside = False
    if not inside:
        raise DatasetError(
            f"{path}: has a line that is no record of this tool. Remove the file and use "
            "--overwrite, by which all images are predicted anew."
        )
    return record


def _is_inside(path: str) -> bool:
    """Return whether a relative path stays below its folder."""
    return not PurePath(path).is_absolute() and ".." not in PurePath(path).parts


def _differences(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Return "name: was X, is Y" for the settings that differ."""
    new = json.loads(json.dumps(new))
    return [
        f"{name} was {old.get(name)}, is {new.get(name)}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which ends with the process whatever ends it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".predict.lock", "w")
    except OSError as error:
        raise UserError(
            f"--output {folder}: cannot be written to ({error.strerror}). Make room, or choose "
            "another place."
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
