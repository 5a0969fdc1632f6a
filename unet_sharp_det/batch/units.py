"""The unit of a run's work, wherever it is done: some planes, whose objects are found and written.

A unit is a chunk of planes, small enough to be in memory together. Of a plane that is larger than a
tile, blocks of tiles may be found elsewhere (:meth:`.Predictor.find_blocks`).
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from ..images.source import ImageSource
from .records import ImageRecord

if TYPE_CHECKING:
    from ..masks.instances import SparseInstances

# Of planes that are opened together; two such chunks are in memory.
_PIXELS_AT_ONCE = 1 << 25

#: What became of a plane: the areas of its objects, in pixels, or why it failed.
Outcome = np.ndarray | Exception


class Outline(NamedTuple):
    """What is known of an image before it is opened."""

    shape: tuple[int, ...]
    open: Callable[[], ImageSource]


@dataclass(frozen=True)
class Plane:
    """An image to predict."""

    record: ImageRecord  # as it begins
    weight: float  # its part of the progress
    name: str  # of its file, for messages
    outline: Outline

    @functools.cached_property
    def source(self) -> ImageSource:
        """The image, opened when it is first asked for; raises what opening it raises."""
        return self.outline.open()

    @property
    def pixels(self) -> int:  # or voxels
        return math.prod(self.outline.shape)


class Log(Protocol):
    """Who is told what is done; calls come from one thread at a time."""

    def advance(self, weight: float) -> None:
        """A part of the progress was made, or taken back."""

    def begin(self, plane: Plane) -> None:
        """The files of a plane may appear from now on."""

    def end(self, plane: Plane, outcome: Outcome) -> None:
        """A plane is written, or failed."""


def chunks_of(planes: Iterable[Plane], at_once: int) -> Iterator[list[Plane]]:
    """Yield up to ``at_once`` planes together, and fewer of large ones."""
    chunk: list[Plane] = []
    for plane in planes:
        chunk.append(plane)
        if len(chunk) >= at_once or sum(each.pixels for each in chunk) >= _PIXELS_AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def find(
    find_objects: Callable, chunk: Sequence[Plane], advance: Callable[[float], None]
) -> list["SparseInstances | Exception"]:
    """Return the objects, or the error, of each plane.

    Args:
        find_objects: from images and a progress in pixels to these, as ``predict_many``.
        advance: is told of the progress in the planes' weights.
    """
    pixels, weight = sum(plane.pixels for plane in chunk), sum(plane.weight for plane in chunk)
    done = 0

    def count(more: int) -> None:
        nonlocal done
        before, done = done, done + more
        advance(weight * (min(1.0, done / pixels) - min(1.0, before / pixels)))

    errors = {}
    for number, plane in enumerate(chunk):
        try:
            plane.source  # noqa: B018  It is opened.
        except Exception as error:
            errors[number] = error
    sources = [plane.source for number, plane in enumerate(chunk) if number not in errors]
    try:
        found = find_objects(sources, count) if sources else []
    except Exception as error:
        count(-done)
        if len(chunk) > 1:  # One by one only the one that it is about fails.
            return [find(find_objects, [plane], advance)[0] for plane in chunk]
        found = [error]
    count(pixels - done)
    rest = iter(found)
    return [errors[number] if number in errors else next(rest) for number in range(len(chunk))]


def write(work, folder: Path, plane: Plane, found) -> Outcome:
    """Write the outputs of a plane, of what :func:`find` found."""
    if isinstance(found, Exception):
        return found
    record = plane.record
    paths = {name: folder / path for name, path in record.outputs.items()}
    try:
        return work.write(plane.source, found, folder / f"{record.stem}{record.plane}", paths)
    except Exception as error:
        return error


def run_here(work, folder: Path, planes: Iterable[Plane], log: Log) -> None:
    """Do planes in this process; those of a chunk are written while the next one is found."""

    def write_all(chunk: Sequence[Plane], found: Sequence) -> None:
        for plane, objects in zip(chunk, found, strict=True):
            if not isinstance(objects, Exception):
                log.begin(plane)
            log.end(plane, write(work, folder, plane, objects))

    with ThreadPoolExecutor(1, thread_name_prefix="outputs") as writer:
        pending: Future | None = None
        for chunk in chunks_of(planes, work.at_once):
            found = find(work.find, chunk, log.advance)
            if pending:
                pending.result()
            pending = writer.submit(write_all, chunk, found)
        if pending:
            pending.result()
