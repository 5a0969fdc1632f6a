"""Which format a folder has: every reader is asked."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from ...errors import DatasetError, look_up_option
from . import FORMATS
from .coco import is_beside
from .samples import SPLIT_NAMES

OF_FILES = ("coco", "tissuenet")  #: formats that a file may be, too


def choose_format(source: Path, name: str | None = None) -> tuple[str, str]:
    """Return the name of a folder's or file's format, and why it was taken.

    Args:
        name: of ``FORMATS``, if the user says it.

    Raises:
        DatasetError: it is of no known format, or of several.
    """
    if not source.exists():
        raise DatasetError(f"There is no {source}. Give the folder, or file, of the annotations.")
    if name is not None:
        look_up_option(name, FORMATS, "--format", DatasetError)
        return name, "by --format"
    places = list(split_folders(source).values())
    found, faults = {}, []
    for each in FORMATS:
        asked = (place for place in places if place.is_dir() or each in OF_FILES)
        try:
            if why := next(filter(None, map(reader_of(each).find, asked)), None):
                found[each] = why
        except DatasetError as error:  # Of a file that may be of no format.
            faults.append(error)
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        named = "; ".join(f"{each} ({why})" for each, why in found.items())
        raise DatasetError(f"{source}: has several formats: {named}. Choose one by --format.")
    if faults:
        raise faults[0]
    error = DatasetError(
        f"{source}: is of no format that is known. Lay the files out as one of these, or give one "
        "by --format:"
    )
    error.details = tuple(f"  {each:<13}{meaning}" for each, meaning in FORMATS.items())
    raise error


def split_folders(source: Path) -> dict[str | None, Path]:
    """Return the folders of the splits, if a folder has those of two or more; else it alone.

    COCO json files beside them say the splits by themselves.
    """
    folders = [each for each in source.iterdir() if each.is_dir()] if source.is_dir() else []
    named = {SPLIT_NAMES.get(each.name.lower()): each for each in sorted(folders)}
    named.pop(None, None)
    is_split = len(named) > 1 and "train" in named and not is_beside(source)
    return named if is_split else {None: source}


def reader_of(name: str) -> ModuleType:
    """Return the module of a format."""
    return import_module(f".{name.replace('-', '_')}", __package__)
