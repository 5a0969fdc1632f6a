"""What was predicted into a folder: a line of JSON per image, by which a stopped run goes on."""

import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath

from ..errors import ConfigError, DatasetError, UserError
from ..files import only_writer, remove, remove_leftovers, write_text
from .inputs import RECORDS, InputFile

# Of all images together.
_FILES = ("summary.csv", "coco.json", "predict.json")
# What is appended to a file's name by its last axis: "_t000_z003" is slice 3 of "_t000".
_SLICE = re.compile(r"^(?P<stack>.*)_[a-z]+\d+$")


@dataclass(frozen=True)
class ImageRecord:
    """An image, a plane of a file, that was predicted, failed, or is being predicted."""

    source: str  # the file's absolute path; symbolic links are kept
    stamp: str  # of the file when it was read, see InputFile.stamp
    stem: str  # what outputs of the file begin with, below the output folder
    plane: str = ""  # what the plane appends to it, "" for files of one
    planes: int = 1  # how many the file has with the options of the run
    height: int | None = None
    width: int | None = None
    outputs: dict[str, str] = field(default_factory=dict)  # paths below the folder, by name
    objects: int | None = None  # None: the outputs are not complete
    mean_area: float | None = None  # in pixels, None where there are no objects
    median_area: float | None = None
    coverage: float | None = None  # the fraction of the image that lies in objects
    error: str = ""  # why it failed

    @property
    def is_done(self) -> bool:
        """Whether all outputs were written."""
        return self.objects is not None and not self.error

    @property
    def linked(self) -> str | None:
        """The path, as of outputs, of the linked label maps of the stack; None: it is no slice."""
        match = _SLICE.match(self.plane)
        return match and f"{self.stem}{match['stack']}_linked.tif"


class Records:
    """The records of an output folder, in ``predict_records.jsonl`` there.

    Its first line holds the settings, with which every image of the folder was predicted. A line
    is added before an image's outputs are written, so that those of a run that was killed are known
    as its own, and another one once they are complete. The last line of an image counts; one that
    was cut short is passed over.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object], overwrite: bool):
        """Use :meth:`open`."""
        self.folder = folder
        self.settings = json.loads(json.dumps(settings))
        self._overwrite = overwrite
        self._by_source: dict[str, dict[str, ImageRecord]] = {}
        self._own: set[str] = set()
        self._file = None
        self._lock = threading.Lock()

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path, settings: Mapping[str, object], overwrite: bool):
        """Read what earlier runs recorded; no other process can open the folder in the block.

        Args:
            folder: for outputs; it is made, and nothing written to it before :meth:`start`.
            settings: all that outputs depend on, as JSON values.
            overwrite: nothing counts as done, other programs' files may be replaced, and results of
                other settings are deleted.

        Raises:
            ConfigError: the folder has outputs of other settings, which the error names.
            UserError: the folder cannot be written to, or another process writes to it.
        """
        with only_writer(folder, name=".predict.lock"):
            records = cls(folder, settings, overwrite)
            if (folder / RECORDS).exists():
                records._read()
            else:
                records.refuse_foreign(folder / name for name in _FILES)
            try:
                yield records
            finally:
                if records._file:
                    with contextlib.suppress(OSError):  # What could not be written is told before.
                        records._file.close()

    def start(self, outputs: Collection[str]) -> None:
        """Write the file anew, with the settings and what is known; then :meth:`add` can."""
        if "coco" in outputs:
            self._own.add("coco.json")
        self.remove_leftovers()
        path, header = self.folder / RECORDS, {"settings": self.settings, "own": sorted(self._own)}
        lines = [header, *map(asdict, self)]
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
        if self._file:
            self._file.close()
        self._file = open(path, "a", encoding="utf-8")

    def remove_leftovers(self) -> None:
        """Delete what processes that were killed had begun to write."""
        remove_leftovers(self.folder, {*self._own, *_FILES, RECORDS}.__contains__)

    def own(self, names: Iterable[str]) -> None:
        """Know files of the folder, by their paths below it, as written by a run; :meth:`start`
        writes that down."""
        self._own.update(names)

    def __iter__(self) -> Iterator[ImageRecord]:
        for planes in self._by_source.values():
            yield from planes.values()

    def of(self, source: Path) -> dict[str, ImageRecord]:
        """Return the records of a file by plane."""
        return dict(self._by_source.get(str(source), {}))

    def is_done(self, record: ImageRecord | None, stamp: str, outputs: Collection[str]) -> bool:
        """Return whether a record has these outputs, of the file as its stamp is now."""
        return (
            not self._overwrite
            and record is not None
            and record.is_done
            and record.stamp == stamp
            and set(outputs) <= set(record.outputs)
            and self.has_outputs(record)
        )

    def all_done(self, file: InputFile, outputs: Collection[str]) -> bool:
        """Return whether all planes of a file are done."""
        planes, stamp = list(self.of(file.path).values()), file.stamp()
        done = all(self.is_done(record, stamp, outputs) for record in planes)
        return done and bool(planes) and len(planes) == planes[0].planes

    def has_outputs(self, record: ImageRecord) -> bool:
        """Return whether the outputs of a record exist."""
        return all((self.folder / path).exists() for path in record.outputs.values())

    def refuse_foreign(self, paths: Iterable[Path]) -> None:
        """Raise if one of some paths below the folder exists, but was not written by a run."""
        for path in filter(os.path.lexists, paths):
            is_own = path.relative_to(self.folder).as_posix() in self._own
            if not is_own and not self._overwrite:
                raise UserError(
                    f"--output {self.folder}: has {path}, which is not of this tool and would be "
                    "replaced. Name another folder, or replace it with --overwrite."
                )

    def add(self, record: ImageRecord) -> None:
        """Add a record, or replace that of the same plane; it is on disk when this returns."""
        with self._lock:
            try:
                self._file.write(json.dumps(asdict(record)) + "\n")
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                raise write_error(self.folder, error) from error
            self._take(record)

    def forget(self, file: InputFile, is_old: Callable[[ImageRecord], bool]) -> None:
        """Delete the outputs of a file's images, and their records, where they are old."""
        for record in filter(is_old, self.of(file.path).values()):
            self._delete_outputs(record)
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

    def _delete_outputs(self, record: ImageRecord) -> None:
        """Delete the outputs of an image, and the linked stack that it is a slice of."""
        self._delete([*record.outputs.values(), *self._own & {record.linked}])

    def _delete(self, names: Iterable[str]) -> None:
        for path in (self.folder / name for name in names):
            try:
                remove(path)
            except OSError as error:
                raise UserError(f"{path}: cannot be deleted ({error.strerror}).") from error

    def _read(self) -> None:
        header, records = _read_records(self.folder / RECORDS)
        self._own.update(header.get("own", []))
        for record in records:
            self._take(record)
        old, new = header["settings"], self.settings
        if old == new:
            return
        if not self._overwrite and any(record.outputs for record in self):
            differences = "; ".join(
                f"{name} was {old.get(name)}, is {new.get(name)}"
                for name in sorted({*old, *new})
                if old.get(name) != new.get(name)
            )
            raise ConfigError(
                f"--output {self.folder}: has results of other settings: {differences}. Name "
                "another folder, or delete those results with --overwrite."
            )
        for record in self:
            self._delete_outputs(record)
        self._by_source = {}
        self.delete_joined_coco()


def write_error(folder: Path, error: OSError) -> UserError:
    """Return the error of an output folder that takes no more files."""
    return UserError(
        f"--output {folder}: cannot be written ({error.strerror}). Make room, and the same command "
        "goes on (without --overwrite)."
    )


def _read_records(path: Path) -> tuple[dict, list[ImageRecord]]:
    """Return the header and the records of a file; what is no JSON was cut short."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    lines = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    try:
        header, records = lines[0], [ImageRecord(**line) for line in lines[1:]]
        names = [name for each in records for name in (each.stem, *each.outputs.values())]
        paths = list(map(PurePath, names))
        is_good = isinstance(header["settings"], dict)
    except (AttributeError, LookupError, TypeError):
        is_good = False
    if not is_good or any(path.is_absolute() or ".." in path.parts for path in paths):
        raise DatasetError(
            f"{path}: is damaged, or not of this tool. Remove it and use --overwrite, by which all "
            "images are predicted anew."
        )
    return header, records
