"""What the app keeps of each open page: one image, what was found in it, and a folder of files."""

import os
import re
import shutil
import tempfile
from collections import OrderedDict
from pathlib import Path
from threading import RLock

import cv2
import numpy as np

from ..errors import DatasetError, UserError
from .analysis import Found, View

NO_IMAGE = "No image is open, or it was removed in the meantime. Open it again."

_LONGEST_STEM = 80  # bytes, so that there is room for the endings of results
_KEPT_PICTURES = 3


def safe_name(name: str) -> str:
    """Return a file name of letters, digits, ``_``, ``-`` and ``.``, of any that a browser gave."""
    stem, suffix = os.path.splitext(name.replace("\\", "/").rsplit("/", 1)[-1])
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("._-")
    stem = stem.encode()[:_LONGEST_STEM].decode(errors="ignore")
    return (stem or "image") + re.sub(r"[^\w.]", "", suffix)[:10]


class Session:
    """An open page.

    Attributes:
        lock: is held by whoever changes it.
        folder: its files; it vanishes with :meth:`close`.
        path: of the image in it, or None.
        view: what was last chosen of it to look at, or None.
        found: what the network found in that image, or None.
        closed: whether the page is gone.
    """

    def __init__(self, folder: Path):
        self.lock = RLock()
        self.folder = folder
        self.closed = False
        self.forget_image()

    def take_image(self, path, name: str) -> Path:
        """Copy a file, of the user's ``name``, as the image of the session; return the copy's path.

        It is alone in a folder of its own, since an image may name files beside it.

        Raises:
            DatasetError: the file is gone.
        """
        self.forget_image()
        kept = Path(tempfile.mkdtemp(dir=self.folder), "image", safe_name(name))
        kept.parent.mkdir()
        try:
            shutil.copyfile(path, kept)
        except OSError as error:
            raise DatasetError(f"{name}: cannot be read ({error.strerror}).") from error
        self.path = kept
        return kept

    def forget_image(self) -> None:
        """Remove the image, what was found in it, and every file of it."""
        self.path: Path | None = None
        self.view: View | None = None
        self.found: Found | None = None
        self._pictures = 0
        for each in self.folder.iterdir():
            shutil.rmtree(each, ignore_errors=True)

    def current_image(self) -> Path:
        """Return the path of the image, or raise a UserError if none is open."""
        if self.path is None or self.closed:
            raise UserError(NO_IMAGE)
        return self.path

    def current_found(self) -> Found:
        """Return what was found in the image, or raise a UserError if nothing was looked for."""
        self.current_image()
        if self.found is None:
            raise UserError("Nothing has been looked for in this image yet. Press Find objects.")
        return self.found

    def results_folder(self) -> Path:
        """Return a new folder for files to download; those of a former call vanish."""
        folder = self.current_image().parents[1] / "results"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def write_picture(self, picture: np.ndarray) -> Path:
        """Write uint8 (H, W, 3) RGB as PNG under a new name; only the last few are kept."""
        folder = self.current_image().parents[1] / "pictures"
        folder.mkdir(exist_ok=True)
        path, old = (folder / f"{self._pictures - n}.png" for n in (0, _KEPT_PICTURES))
        cv2.imwrite(str(path), picture[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])
        old.unlink(missing_ok=True)
        self._pictures += 1
        return path

    def close(self) -> None:
        """Remove everything."""
        self.closed = True
        self.forget_image()
        shutil.rmtree(self.folder, ignore_errors=True)


class Sessions:
    """The open pages by key; when there are too many the one that was unused longest is closed.

    gradio's own State would drop that one without closing it, and keep others for an hour.

    Args:
        folder: exists; each session has a folder in it.
        limit: of sessions, 1 or more.
    """

    def __init__(self, folder: Path, limit: int = 16):
        self._folder = folder
        self._limit = limit
        self._open: OrderedDict[str, Session] = OrderedDict()
        self._lock = RLock()

    def get(self, key: str) -> Session | None:
        """Return the session of a key, if there is one."""
        with self._lock:
            if key in self._open:
                self._open.move_to_end(key)
            return self._open.get(key)

    def open(self, key: str) -> Session:
        """Return the session of a key, a new one if there is none."""
        with self._lock:
            if key not in self._open:
                self._open[key] = Session(Path(tempfile.mkdtemp(dir=self._folder)))
            if len(self._open) > self._limit:
                self._open.popitem(last=False)[1].close()
            return self.get(key)

    def close(self, key: str) -> None:
        """Close a session, if there is one of that key."""
        with self._lock:
            session = self._open.pop(key, None)
        if session is not None:
            session.close()
