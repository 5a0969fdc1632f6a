"""What the app keeps of each visitor: images, searches for objects in them, and their files."""

import os
import re
import shutil
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import UserError
from .analysis import ImageFile, Search, View

MOST_IMAGES = 100

_LONGEST_STEM = 80  # bytes, so that there is room for the endings of results


def safe_name(name: str) -> str:
    """Return a file name of letters, digits, ``_``, ``-`` and ``.``, of any that a browser gave."""
    stem, suffix = os.path.splitext(name.replace("\\", "/").rsplit("/", 1)[-1])
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("._-")
    stem = stem.encode()[:_LONGEST_STEM].decode(errors="ignore")
    return (stem or "image") + re.sub(r"[^\w.]", "", suffix)[:10]


@dataclass(eq=False)
class Task:
    """A search in an image: it waits, runs, and then keeps what it found.

    Attributes:
        folder: of its results.
        fraction: how much is done, from 0 to 1.
        error: of one that failed, else "".
        stopped: whether its results are no longer wanted.
    """

    view: View
    search: Search
    folder: Path
    state: Literal["waiting", "running", "done", "failed", "cancelled"] = "waiting"
    fraction: float = 0.0
    error: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)

    def report(self, fraction: float) -> None:
        self.fraction = min(fraction, 1.0)

    @property
    def is_active(self) -> bool:
        return self.state in ("waiting", "running")

    def stop(self) -> None:
        self.stopped.set()
        if self.is_active:
            self.state = "cancelled"

    def drop(self) -> None:
        """Stop, and remove the results."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Image:
    """An image of a visitor.

    Attributes:
        number: by which the page names it.
        path: of its file, alone in a folder, since an image may name files beside it.
        size: of that file in bytes.
        file: what there is to choose, None until it is opened.
        view: what was last chosen.
        tiles, last_level: of the picture of that view.
        tasks: the latest search of each model in that view.
    """

    def __init__(self, number: int, folder: Path, name: str, size: int):
        self.number, self.size, self._folder = number, size, folder
        self.path = folder / "image" / name
        self.path.parent.mkdir()
        self.file: ImageFile | None = None
        self.view: View | None = None
        self.tiles: Path | None = None
        self.last_level = 0
        self.tasks: dict[str, Task] = {}

    def new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._folder))

    def show(self, view: View, tiles: Path, last_level: int) -> None:
        """Take another view; what was found in the former one vanishes."""
        for task in self.tasks.values():
            task.drop()
        if self.tiles is not None:
            shutil.rmtree(self.tiles, ignore_errors=True)
        self.view, self.tiles, self.last_level, self.tasks = view, tiles, last_level, {}

    def start(self, search: Search) -> Task:
        """Put a new task in the place of the model's former one."""
        if search.model in self.tasks:
            self.tasks[search.model].drop()
        task = self.tasks[search.model] = Task(self.view, search, self.new_folder())
        return task

    def done(self, model: str) -> Task:
        """Return the task of a model that found something, or raise a UserError."""
        task = self.tasks.get(model)
        if task is None or task.state != "done":
            raise UserError(f"{self.path.name}: nothing has been found yet. Press Find objects.")
        return task

    def remove(self) -> None:
        for task in self.tasks.values():
            task.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


class Session:
    """A visitor.

    Attributes:
        lock: is held by whoever changes it.
        folder: its files; it vanishes with :meth:`close`.
        images: by their numbers.
    """

    def __init__(self, folder: Path):
        self.lock = threading.RLock()
        self.folder = folder
        self.images: dict[int, Image] = {}
        self._last_number = 0

    def add(self, name: str, size: int, room: int) -> Image:
        """Make room for a file of the user's ``name``; it is an image once it is opened.

        Args:
            size: of the file in bytes.
            room: bytes that all files may have.

        Raises:
            UserError: there are too many.
        """
        with self.lock:
            images = self.images.values()
            if len(images) >= MOST_IMAGES or size + sum(each.size for each in images) > room:
                raise UserError(f"{name}: there is no more room for images. Remove some first.")
            self._last_number += 1
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            image = Image(self._last_number, folder, safe_name(name), size)
            self.images[image.number] = image
            return image

    def image(self, number: int) -> Image:
        """Return an image that is open, or raise a UserError."""
        image = self.images.get(number)
        if image is None or image.view is None:
            raise UserError(
                "This image is not open, or was removed in the meantime. Open it again."
            )
        return image

    def remove(self, number: int) -> None:
        with self.lock:
            image = self.images.pop(number, None)
        if image is not None:
            image.remove()

    def close(self) -> None:
        """Remove everything."""
        for number in list(self.images):
            self.remove(number)
        shutil.rmtree(self.folder, ignore_errors=True)


class Sessions:
    """The visitors by key; when there are too many the one that was away longest is forgotten.

    Args:
        folder: exists; each session has a folder in it.
        limit: of sessions, 1 or more.
    """

    def __init__(self, folder: Path, limit: int = 16):
        self._folder = folder
        self._limit = limit
        self._open: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Session | None:
        """Return the session of a key, if there is one."""
        with self._lock:
            if key in self._open:
                self._open.move_to_end(key)
            return self._open.get(key)

    def open(self, key: str) -> Session:
        """Return the session of a key, a new one if there is none."""
        oldest = None
        with self._lock:
            if key not in self._open:
                self._open[key] = Session(Path(tempfile.mkdtemp(dir=self._folder)))
            self._open.move_to_end(key)
            if len(self._open) > self._limit:
                _, oldest = self._open.popitem(last=False)
            session = self._open[key]
        if oldest is not None:
            oldest.close()
        return session
