"""The image files that a user names, and what the files of each one's objects are called."""

import difflib
import fnmatch
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DatasetError
from ..images.formats import count_not_read, format_not_read

#: What an image in a folder is known by; a file that is named itself may be called anything.
SUFFIXES = (
    *(".tif", ".tiff", ".btf", ".tf8", ".lsm", ".svs", ".ndpi"),
    *(".png", ".jpg", ".jpeg", ".bmp", ".webp", ".jp2"),
)

#: Marks a folder as output of a prediction, whose pictures are no input.
RECORDS = "predict_records.jsonl"

#: The stamp of a file that cannot be reached, perhaps for a while, as on a share.
GONE = (0, 0)

_WILDCARDS = re.compile(r"[*?[]")


@dataclass(frozen=True)
class InputFile:
    """An image file that was found.

    Attributes:
        path: absolute; symbolic links are kept.
        folder: the folder that the user named or that a pattern begins with; what lies between it
            and the file is kept in the names of outputs. The file's own if it was named itself.
    """

    path: Path
    folder: Path

    @property
    def key(self) -> str:
        """What makes it the same file: its path, so that two links to a file are two images."""
        return str(self.path)

    @property
    def name(self) -> str:
        """The path below :attr:`folder`, with ``/``."""
        return self.path.relative_to(self.folder).as_posix()

    def stamp(self) -> tuple[int, int]:
        """Return its size in bytes and its time of change in nanoseconds; ``GONE`` of no file."""
        try:
            status = os.stat(self.path)
        except OSError:
            return GONE
        return status.st_size, status.st_mtime_ns


def find_files(
    inputs: Iterable, *, recursive: bool = False, output=None, not_read: list[Path] | None = None
) -> list[InputFile]:
    """Find the image files of files, folders and patterns.

    Args:
        inputs: of each image once, whatever names it: a file; a folder, for the files with one of
            ``SUFFIXES`` in it; or a pattern with ``*``, ``?``, ``[...]`` and, for any folders,
            ``**``, after folders that exist as written. Hidden files and folders are passed over,
            and so are outputs of predictions. Symbolic links go by their own path.
        recursive: take the folders below a folder too; links that lead in a circle do no harm.
        output: the folder for outputs, which is not searched.
        not_read: gets the files in folders whose format of a microscope is not read.

    Returns:
        list: sorted by path, with numbers in names by value.

    Raises:
        DatasetError: there is no input, one is empty or of no image, a folder cannot be read, or
            an image lies in the output folder itself, where outputs could replace it.
    """
    real_output = os.path.realpath(output) if output is not None else None
    search = _Search(recursive, real_output, [] if not_read is None else not_read)
    found: dict[str, InputFile] = {}
    for text in inputs:
        if not os.fspath(text):
            raise DatasetError("INPUT: is empty (a variable that is not set?). Name an image.")
        for file in search.find(os.path.expanduser(os.fspath(text))):
            found.setdefault(file.key, file)
    if not found:
        raise DatasetError("INPUT: name at least one image, folder or pattern.")
    for file in found.values():
        real = os.path.dirname(os.path.realpath(file.path))
        if search.output in (real, os.path.realpath(file.path.parent)):
            raise DatasetError(
                f"--output {output}: is the folder of {file.path.name}, which outputs could "
                f"replace. Name another, e.g. {Path(output) / 'predictions'}."
            )
    return sorted(found.values(), key=lambda file: natural_key(str(file.path)))


def natural_key(text: str) -> tuple:
    """Return a key that sorts ``z2`` before ``z10``, and what lies in a folder together."""
    parts = [
        [(0, int(run), "") if run.isdecimal() else (1, 0, run.casefold()) for run in runs if run]
        for runs in (re.split(r"([0-9]+)", part) for part in Path(text).parts)
    ]
    return parts, text


def output_stems(
    files: Sequence[InputFile], known: Mapping[str, str], used: Mapping[str, str]
) -> dict[str, str]:
    """Choose what the output files of each image begin with, so that no two share a file.

    That is the file's path below the folder that was named, without its suffix. With the suffix
    where another image in the same folder has the same stem, be it an input or not: so names do
    not depend on which of them are inputs. Where images of several folders would have the same
    name their folders' names come before it, and at last digits of the path.

    Args:
        files: all inputs.
        known: the stems of earlier runs into the same folder, by key; these stay.
        used: the keys by what outputs of earlier runs begin with, planes included, in lower case.

    Returns:
        dict: stems with ``/``, by key. They differ in more than case.
    """
    siblings = _count_stems({file.path.parent for file in files})
    levels = {file.key: 0 for file in files}
    names = {file.key: _candidates(file, siblings) for file in files}
    while True:
        users = defaultdict(list)
        for key, level in levels.items():
            users[names[key][level].casefold()].append(key)
        clashing = [
            key
            for stem, keys in users.items()
            for key in keys
            if (len(keys) > 1 or used.get(stem, key) != key) and levels[key] + 1 < len(names[key])
        ]
        if not clashing:
            break
        for key in clashing:
            levels[key] += 1
    chosen = {key: known.get(key, names[key][level]) for key, level in levels.items()}
    taken = Counter(stem.casefold() for stem in chosen.values())
    return {  # A stem of an earlier run may be one that this run chose for another image.
        key: stem if key in known or taken[stem.casefold()] == 1 else names[key][-1]
        for key, stem in chosen.items()
    }


def _candidates(file: InputFile, siblings: Mapping[Path, Counter]) -> list[str]:
    relative = file.path.relative_to(file.folder)
    if siblings[file.path.parent][file.path.stem.casefold()] < 2:
        relative = relative.with_name(file.path.stem)
    digits = hashlib.sha256(os.fsencode(file.key)).hexdigest()[:8]
    name = relative.as_posix()
    return [name, f"{file.folder.name or 'root'}/{name}", f"{name}-{digits}"]


def _count_stems(folders: Iterable[Path]) -> dict[Path, Counter]:
    """Return how many images of each stem, in lower case, a folder has."""
    counts = {}
    for folder in folders:
        names = {os.path.splitext(name) for name in _names(folder)}
        counts[folder] = Counter(
            stem.casefold()
            for stem, suffix in names
            if suffix.lower() in SUFFIXES and not stem.startswith(".")
        )
    return counts


class _Search:
    def __init__(self, recursive: bool, output: str | None, not_read: list[Path]):
        self.recursive = recursive
        self.output = output
        self.not_read = not_read

    def find(self, text: str) -> list[InputFile]:
        path = Path(os.path.abspath(text))
        if os.path.isdir(path):
            return self._in_folder(path, text)
        if os.path.exists(path):  # pathlib's raises for names that are too long
            if not path.is_file():
                raise DatasetError(f"{text}: is neither a file nor a folder.")
            return [InputFile(path, path.parent)]
        ends = range(1, len(path.parts) + 1)
        missing = next(end for end in ends if not os.path.exists(Path(*path.parts[:end])))
        for fixed in range(missing - 1, len(path.parts)):
            if _WILDCARDS.search(path.parts[fixed]):
                return self._of_pattern(path, fixed, text)
        raise DatasetError(f"{text}: there is no such file or folder. {_nearest(path)}")

    def _in_folder(self, folder: Path, text: str) -> list[InputFile]:
        if os.path.realpath(folder) == self.output:
            raise DatasetError(
                f"--output {text}: is the folder of the images, which outputs could replace. Name "
                f"another, e.g. {Path(text) / 'predictions'}."
            )
        folders = list(self._walk(folder)) if self.recursive else [folder]
        names = [each / name for each in folders for name in _names(each)]
        not_read = [path for path in names if format_not_read(path) and path.name[0] != "."]
        self.not_read += not_read
        found = [InputFile(path, folder) for each in folders for path in _images(each)]
        if not found:
            explanation = count_not_read(not_read) or self._explain(folder)
            raise DatasetError(f"{text}: has no image that is read. {explanation}")
        return found

    def _of_pattern(self, path: Path, fixed: int, text: str) -> list[InputFile]:
        """Return the files of a pattern, of which so many parts are taken as they are."""
        folder, pattern = Path(*path.parts[:fixed]), list(path.parts[fixed:])
        if not folder.is_dir():
            raise DatasetError(f"{text}: there is no folder {folder}. {_nearest(folder)}")
        any_suffix = not pattern[-1].endswith("*")
        matches = {
            match: InputFile(match, folder)
            for match in self._match(folder, pattern)
            if any_suffix or match.suffix.lower() in SUFFIXES
        }
        if not matches:
            raise DatasetError(
                f"{text}: no image matches the pattern. {_describe(folder)} Within a pattern ** "
                "stands for any folders."
            )
        return list(matches.values())

    def _match(self, folder: Path, pattern: list[str]) -> Iterator[Path]:
        """Yield the files below a folder that match the parts of a pattern."""
        first, *others = pattern
        if first == "**":
            for each in self._walk(folder):
                yield from self._match(each, others or ["*"])
            return
        for name in _names(folder):
            if name.startswith(".") and not first.startswith("."):
                continue
            if fnmatch.fnmatch(name, first):
                path = folder / name
                if not others:
                    if path.is_file() or path.is_symlink() and not path.exists():
                        yield path
                elif path.is_dir() and not self._is_output(path):
                    yield from self._match(path, others)

    def _walk(self, folder: Path) -> Iterator[Path]:
        """Yield a folder and those below it, each once."""
        seen = {os.path.realpath(folder)}
        pending = [folder]
        while pending:
            each = pending.pop()
            yield each
            for name in _names(each):
                below = each / name
                if name.startswith(".") or not below.is_dir() or self._is_output(below):
                    continue
                real = os.path.realpath(below)
                if real not in seen:
                    seen.add(real)
                    pending.append(below)

    def _is_output(self, folder: Path) -> bool:
        return os.path.realpath(folder) == self.output or (folder / RECORDS).exists()

    def _explain(self, folder: Path) -> str:
        """Say what a folder has instead of images, and where images are."""
        text = _describe(folder)
        if not self.recursive:
            below = sum(len(_images(each)) for each in self._walk(folder) if each != folder)
            if below:
                text += f" The folders below it have {below} images: take them with --recursive."
        return text


def _describe(folder: Path) -> str:
    suffixes = Counter(Path(name).suffix.lower() or "no suffix" for name in _names(folder))
    has = ", ".join(f"{count} with {suffix}" for suffix, count in suffixes.most_common(5))
    return f"Known are {', '.join(SUFFIXES)}; the folder {folder} has {has or 'nothing'}."


def _images(folder: Path) -> list[Path]:
    """Return the files of a folder that are images by name; links to nowhere are among them."""
    paths = [
        folder / name
        for name in _names(folder)
        if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
    ]
    return [path for path in paths if path.is_file() or path.is_symlink() and not path.exists()]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be listed ({error.strerror}).") from error


def _nearest(path: Path) -> str:
    """Name what exists near a missing path."""
    while not os.path.isdir(path.parent):
        path = path.parent
    names = [name for name in _names(path.parent) if not name.startswith(".")]
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    shown = close or names[:3]
    if not shown:
        return f"The folder {path.parent} is empty."
    listed = ", ".join(f"'{name}'" for name in shown)
    if close:
        return f"Near that name the folder {path.parent} has {listed}."
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"The folder {path.parent} has {listed}{more}."
