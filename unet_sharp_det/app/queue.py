"""Searches wait for the network in a queue, in which visitors take turns."""

import logging
import threading
from collections import OrderedDict, deque

from ..errors import UserError
from .isolation import IsolatedAnalyser
from .sessions import Task

logger = logging.getLogger(__name__)

#: Seconds to wait for a thread of the app, which ends with the process in any case.
LONGEST_END = 10


class Queue:
    """Runs tasks one at a time in a thread: of each visitor one, then of the next.

    Args:
        analyser: finds objects.
    """

    def __init__(self, analyser: IsolatedAnalyser):
        self._analyser = analyser
        self._tasks: OrderedDict[str, deque[Task]] = OrderedDict()
        self._changed = threading.Condition()
        self._running: Task | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, visitor: str, task: Task) -> None:
        with self._changed:
            self._tasks.setdefault(visitor, deque()).append(task)
            self._changed.notify()

    def close(self) -> None:
        """Stop what runs, and start nothing more."""
        with self._changed:
            self._ended = True
            if self._running is not None:
                self._running.stop()
            self._changed.notify()
        self._thread.join(LONGEST_END)

    def _run(self) -> None:
        while (task := self._next()) is not None:
            try:
                self._analyser.find(task.view, task.search, task.folder, task)
                outcome, error = "done", ""
            except UserError as problem:
                outcome, error = "failed", str(problem)
            except Exception:
                logger.exception(f"{task.view.path.name}: the search failed")
                outcome, error = "failed", "The search failed; see the terminal of the app."
            task.error = error
            task.state = "cancelled" if task.stopped.is_set() else outcome

    def _next(self) -> Task | None:
        with self._changed:
            self._running = None
            while not self._ended:
                while self._tasks:
                    visitor, tasks = self._tasks.popitem(last=False)
                    task = tasks.popleft()
                    if tasks:
                        self._tasks[visitor] = tasks
                    if not task.stopped.is_set():
                        task.state, self._running = "running", task
                        return task
                self._changed.wait()
            return None
