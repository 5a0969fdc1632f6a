"""How far a run is: as a bar on a terminal, as a line now and then elsewhere."""

import sys
import time
from typing import TextIO

from tqdm import tqdm

from ..errors import printable

_SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """What a run tells of itself; this one keeps it to itself.

    Images are weighted by the sizes of their files, which are known before they are opened, so
    that an hour's image does not count like a second's.

    Attributes:
        images, done: how many are to be predicted, and how many were.
        name: what is being worked on.
        part: of the work that is done, from 0 to 1.
    """

    def __init__(self):
        self.images = self.done = 0
        self.name = ""
        self.part = 0.0

    def start(self, images: int) -> None:
        """Begin with a number of files."""
        self.images = images

    def work_on(self, name: str) -> None:
        """Say what comes next."""
        self.name = printable(name)
        self.show()

    def reach(self, part: float) -> None:
        """Say which part of the work is done; it may go back a little."""
        self.part = min(1.0, max(0.0, part))
        self.show()

    def finish_file(self) -> None:
        """Count a file that was predicted or failed."""
        self.done += 1
        self.show()

    def show(self) -> None:
        """Bring the changes to the user's eyes."""

    def close(self) -> None:
        """End, whether or not all is done."""


class ProgressBar(Progress):
    """A bar with the time that is left; write messages by ``tqdm.write`` beside it."""

    def __init__(self, stream: TextIO | None = None):
        super().__init__()
        self._bar = None
        self._stream = stream or sys.stderr

    def start(self, images: int) -> None:
        """Draw the bar."""
        super().start(images)
        self._bar = tqdm(
            total=1.0,
            file=self._stream,
            bar_format="{percentage:3.0f}%|{bar:20}| [{elapsed}<{remaining}]{postfix}",
            dynamic_ncols=True,
            smoothing=0.0,
        )

    def show(self) -> None:
        """Draw the bar anew, a few times per second at most."""
        text = f"{self.done}/{self.images} files, {self.name}"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(self.part - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()


class ProgressLines(Progress):
    """A line with the time that is left every half a minute, for logs."""

    def __init__(self, stream: TextIO | None = None, seconds: float = _SECONDS_BETWEEN_LINES):
        """
        Args:
            stream: to write to; None: the standard error.
            seconds: between lines.
        """
        super().__init__()
        self._stream = stream or sys.stderr
        self._seconds = seconds
        self._begin = self._last = time.monotonic()

    def show(self) -> None:
        """Write a line if it is time."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return
        self._last = now
        text = f"{self.done}/{self.images} files, {100 * self.part:.0f} %, {self.name}"
        if self.part > 0:
            left = (now - self._begin) * (1 - self.part) / self.part
            text += f", about {tqdm.format_interval(left)} left"
        print(text, file=self._stream, flush=True)


def progress_for(stream: TextIO) -> Progress:
    """Return what suits a stream: a bar on a terminal, else lines."""
    return ProgressBar(stream) if stream.isatty() else ProgressLines(stream)
