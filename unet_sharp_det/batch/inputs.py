"""The image files that a user names, and what the files of each one's objects are called."""

import difflib
import fnmatch
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..addresses import address_of
from ..errors import DatasetError, counted
from ..images import source
from ..images.formats import count_not_read, format_not_read
from ..images.ome_zarr import is_zarr, zarr_stamp
from ..outputs import output_paths

#: What an image in a folder is known by.
SUFFIXES = (*source.SUFFIXES, ".zarr")

#: Marks a folder as output of a prediction, whose pictures are no input.
RECORDS = "predict_records.jsonl"

#: The stamp of a file that cannot be reached, perhaps for a while, as on a share.
GONE = ""

_WILDCARDS = re.compile(r"[*?[]")


@dataclass(frozen=True)
class InputFile:
    """An image file, or folder of OME-Zarr, that was found."""

    path: Path  # absolute; symbolic links are kept, so that two links to a file are two images
    # An address like s3://bucket/a.zarr is a path too, s3:/bucket/a.zarr; see address_of.
    folder: Path  # that the user named or that a pattern begins with, else the file's own

    @property
    def name(self) -> str:
        """The path below :attr:`folder`, with ``/``."""
        return self.path.relative_to(self.folder).as_posix()

    @property
    def stem(self) -> str:
        """The name of the file without its suffix."""
        return self.path.stem

    def stamp(self) -> str:
        """Return the size in bytes and the time of change in nanoseconds; ``GONE`` of no file. For
        OME-Zarr see :func:`.zarr_stamp`."""
        if is_zarr(self.path):
            return zarr_stamp(self.path)
        try:
            status = os.stat(self.path)
        except OSError:
            return GONE
        return f"{status.st_size}-{status.st_mtime_ns}"

    def output_paths(self, stem: Path, names: Sequence[str]) -> list[Path]:
        """Return where outputs are written; ``stem`` is what their paths begin with."""
        return output_paths(stem, names)


def find_files(
    inputs: Iterable, *, recursive: bool = False, output=None, not_read: list[Path] | None = None
) -> list[InputFile]:
    """Find the image files of files, folders and patterns. An OME-Zarr is a file here.

    Args:
        inputs: a file; an address of an OME-Zarr; a folder, for the files with one of ``SUFFIXES``
            in it; or a pattern with ``*``, ``?``, ``[...]`` and, for any folders, ``**``. Hidden
            files and folders and outputs of predictions are passed over.
        recursive: take the folders below a folder too; links that lead in a circle do no harm.
        output: the folder for outputs, which is not searched.
        not_read: gets the files in folders whose format of a microscope is not read.

    Returns:
        each file once, sorted by path, with numbers in names by value.

    Raises:
        DatasetError: there is no input, one is empty or of no image, a folder cannot be read, or
            an image lies in the output folder itself, where outputs could replace it.
    """
    not_read = [] if not_read is None else not_read
    real_output = os.path.realpath(output) if output is not None else None
    found: dict[Path, InputFile] = {}
    for text in map(os.fspath, inputs):
        if not text:
            raise DatasetError("INPUT: is empty (a variable that is not set?). Name an image.")
        for file in _find(text, recursive, real_output, not_read):
            found.setdefault(file.path, file)
    if not found:
        raise DatasetError("INPUT: name at least one image, folder or pattern.")
    for path in found:
        if real_output in (os.path.dirname(os.path.realpath(path)), os.path.realpath(path.parent)):
            raise _is_input_error(output, path.name)
    return sorted(found.values(), key=lambda file: natural_key(str(file.path)))


def natural_key(text: str) -> tuple:
    """Return a key that sorts ``z2`` before ``z10``, and what lies in a folder together."""
    parts = [
        [(0, int(run), "") if run.isdecimal() else (1, 0, run.casefold()) for run in runs if run]
        for runs in (re.split(r"([0-9]+)", part) for part in Path(text).parts)
    ]
    return parts, text


class Stems:
    """What the outputs of each file begin with, so that no two write the same file.

    That is the file's path below the folder that was named, without its suffix. With the suffix
    where another image in the same folder has the same stem, be it an input or not: so names do
    not depend on which of them are inputs. Where images of several folders would have the same
    name their folders' names come before it, and at last digits of the path. Stems of earlier runs
    stay. They have ``/``, and differ in more than case.
    """

    def __init__(self, files: Sequence[InputFile], records: Iterable):
        """Choose the stems of files beside those of the :class:`ImageRecord` of earlier runs."""
        known, self._users = {}, {}
        for record in records:
            known[Path(record.source)] = record.stem
            self._users[(record.stem + record.plane).casefold()] = Path(record.source)
        siblings = {folder: _count_stems(folder) for folder in {file.path.parent for file in files}}
        candidates = {file.path: _candidates(file, siblings[file.path.parent]) for file in files}
        counts = Counter(name.casefold() for names in candidates.values() for name in names)

        def is_free(name: str, path: Path) -> bool:
            return counts[name.casefold()] == 1 and self._users.get(name.casefold(), path) == path

        self._stems = {
            path: known.get(path) or next(name for name in names if is_free(name, path))
            for path, names in candidates.items()
        }
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
            stem = _with_digits(stem, file.path)
        self._users |= {(stem + plane).casefold(): file.path for plane in planes}
        return stem


def _with_digits(name: str, path: Path) -> str:
    """Return a name that no other path's file has."""
    return f"{name}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"


def _candidates(file: InputFile, siblings: Counter) -> list[str]:
    relative = file.path.relative_to(file.folder)
    if siblings[file.stem.casefold()] < 2:
        relative = relative.with_name(file.stem)
    name = relative.as_posix()
    return [name, f"{file.folder.name or 'root'}/{name}", _with_digits(name, file.path)]


def _count_stems(folder: Path) -> Counter:
    """Return how many images of each stem, in lower case, a folder has; of an address it is not
    known."""
    if address_of(folder):
        return Counter()
    names = map(Path, _names(folder))
    return Counter(name.stem.casefold() for name in names if name.suffix.lower() in SUFFIXES)


def _find(
    text: str, recursive: bool, output: str | None, not_read: list[Path]
) -> Iterator[InputFile]:
    """Yield what an input names: the file itself, or the images of a folder or pattern."""
    path = Path(text if address_of(text) else os.path.abspath(os.path.expanduser(text)))
    if is_zarr(path):
        yield InputFile(path, path.parent)
        return
    is_folder = os.path.isdir(path)
    if is_folder:
        if os.path.realpath(path) == output:
            raise _is_input_error(text, "the images")
        folder, pattern = path, ["**", "*"] if recursive else ["*"]
    elif os.path.isfile(path):  # pathlib's raises for names that are too long
        yield InputFile(path, path.parent)
        return
    elif os.path.exists(path):
        raise DatasetError(f"{text}: is neither a file nor a folder. Name an image.")
    else:
        folder, pattern = _part_pattern(path, text)
    matches = _match(folder, pattern, output)
    found = [each for each in matches if is_zarr(each) or not os.path.isdir(each)]
    skipped = [each for each in found if format_not_read(each)] if is_folder else []
    if pattern[-1].endswith("*"):
        found = [each for each in found if each.suffix.lower() in SUFFIXES]
    if not found:
        reason = "has no image that is read" if is_folder else "no image matches the pattern"
        explanation = count_not_read(skipped) or _explain(folder, output, is_folder)
        raise DatasetError(f"{text}: {reason}. {explanation}")
    not_read += [each for each in skipped if each not in not_read]
    yield from (InputFile(each, folder) for each in found)


def _part_pattern(path: Path, text: str) -> tuple[Path, list[str]]:
    """Return the folder that a pattern begins with, as it is written, and the other parts."""
    ends = range(1, len(path.parts) + 1)
    missing = next(end for end in ends if not os.path.exists(Path(*path.parts[:end])))
    for fixed in range(missing - 1, len(path.parts)):
        if _WILDCARDS.search(path.parts[fixed]):
            folder = Path(*path.parts[:fixed])
            if not folder.is_dir():
                raise DatasetError(f"{text}: there is no folder {folder}. {_nearest(folder)}")
            return folder, list(path.parts[fixed:])
    raise DatasetError(f"{text}: there is no such file or folder. {_nearest(path)}")


def _match(folder: Path, pattern: list[str], output: str | None) -> Iterator[Path]:
    """Yield what lies below a folder and matches the parts of a pattern."""
    first, *others = pattern
    if first == "**":
        for each in _walk(folder, output):
            yield from _match(each, others or ["*"], output)
        return
    for path in (folder / name for name in _names(folder) if fnmatch.fnmatch(name, first)):
        if not others:
            if path.is_file() or path.is_symlink() or is_zarr(path):
                yield path
        elif _is_searched(path, output):
            yield from _match(path, others, output)


def _walk(folder: Path, output: str | None) -> Iterator[Path]:
    """Yield a folder and those below it, each once."""
    seen, pending = set(), [folder]
    while pending:
        each = pending.pop()
        if (real := os.path.realpath(each)) in seen:
            continue
        seen.add(real)
        yield each
        below = [each / name for name in _names(each)]
        pending += [path for path in below if _is_searched(path, output)]


def _is_searched(path: Path, output: str | None) -> bool:
    if not path.is_dir() or is_zarr(path):
        return False
    return os.path.realpath(path) != output and not (path / RECORDS).exists()


def _explain(folder: Path, output: str | None, is_folder: bool) -> str:
    """Say what a folder has instead of images, and where images are."""
    suffixes = Counter(Path(name).suffix.lower() or "no suffix" for name in _names(folder))
    has = ", ".join(f"{count} with {suffix}" for suffix, count in suffixes.most_common(5))
    text = f"Known are {', '.join(SUFFIXES)}; the folder {folder} has {has or 'nothing'}."
    if not is_folder:
        return f"{text} Within a pattern ** stands for any folders."
    below = [path for path in _match(folder, ["**", "*"], output) if path.parent != folder]
    count = sum(path.suffix.lower() in SUFFIXES for path in below)
    hint = f" The folders below it have {counted(count, 'image')}: take them with --recursive."
    return text + hint if count else text


def _is_input_error(output, what: str) -> DatasetError:
    return DatasetError(
        f"--output {output}: is the folder of {what}, which outputs could replace. Name another, "
        f"e.g. {Path(output, 'predictions')}."
    )


def _names(folder: Path) -> list[str]:
    """Return what is in a folder, but for what is hidden."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be listed ({error.strerror}).") from error


def _nearest(path: Path) -> str:
    """Name what exists near a missing path."""
    while not os.path.isdir(path.parent):
        path = path.parent
    names = _names(path.parent)
    close = difflib.get_close_matches(path.name, names)
    listed = ", ".join(f"'{name}'" for name in close or names[:3]) or "nothing"
    return f"{'Near that name the' if close else 'The'} folder {path.parent} has {listed}."
