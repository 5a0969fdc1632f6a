"""Experiment trackers beside TensorBoard: Weights & Biases, and MLflow."""

import contextlib
import re
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, get_event_storage

from ..errors import ConfigError, first_line, look_up_option
from ..files import read_json, write_json

RUN_FILE = "tracking.json"
FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
#: Iterations of which a smoothed scalar is the median, as in metrics.json.
_WINDOW = 20


class TrackingWriter(EventWriter):
    """Writes a training to one run of a tracker, which the user's environment configures.

    It writes the config, the scalars as ``metrics.json`` has them, and the images of the event
    storage. To be called before detectron2's ``TensorboardXWriter``, which clears the images.
    """

    package: str

    def __init__(self, output_dir: str, config: dict[str, str]):
        """
        Args:
            output_dir: its ``tracking.json`` keeps the id of the run for a resumed training.
            config: by dotted keys.

        Raises:
            ConfigError: the tracker's package is missing.
        """
        try:
            self._library = import_module(self.package)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"TRACKING is '{self.package}', but that package is missing. Run: pip install "
                "'unet_sharp_det[tracking]'"
            ) from error
        self._output_dir = Path(output_dir)
        self._name = "/".join(self._output_dir.absolute().parts[-2:])
        self._config = config
        self._last_write = -1

    @contextlib.contextmanager
    def run(self, resumed: bool) -> Iterator[None]:
        """Have a run for the block, a new one, or with ``resumed`` that of ``output_dir``.

        The run ends as failed if an error leaves the block, as killed if a signal does.

        Raises:
            ConfigError: the tracker is not set up, or cannot be reached.
        """
        path = self._output_dir / RUN_FILE
        run_id = read_json(path, dict).get(self.package) if resumed and path.is_file() else None
        try:
            run_id = self._start(run_id)
        except Exception as error:  # Each library has kinds of its own.
            raise ConfigError(
                f"TRACKING: {self.package} cannot start a run: {first_line(error)}. See "
                "docs/how-to/train.md on trackers."
            ) from error
        write_json(path, {self.package: run_id})
        status = FAILED
        try:
            yield
            status = FINISHED
        except (KeyboardInterrupt, SystemExit):
            status = KILLED
            raise
        finally:
            self._end(status)

    def write(self) -> None:
        """Write what the event storage has got since the last time, by iteration."""
        storage = get_event_storage()
        scalars, images = defaultdict(dict), defaultdict(dict)
        latest = storage.latest_with_smoothing_hint(_WINDOW)
        for name, (value, iteration) in latest.items():
            if iteration > self._last_write:
                scalars[iteration][name] = value
        for name, image, iteration in storage._vis_data:
            images[iteration][name] = np.moveaxis(image, 0, -1)
        for iteration in sorted({*scalars, *images}):  # wandb takes no earlier one afterwards.
            self._log(iteration, scalars[iteration], images[iteration])
        self._last_write = max([self._last_write, *scalars])

    @abstractmethod
    def _start(self, run_id: str | None) -> str:
        """Start a run, or go on with one; return its id."""

    @abstractmethod
    def _log(self, iteration: int, scalars: dict[str, float], images: dict[str, np.ndarray]):
        """Log what an iteration has; images are uint8 (H, W, 3)."""

    @abstractmethod
    def _end(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED."""


class WandbWriter(TrackingWriter):
    """:class:`TrackingWriter` for Weights & Biases, with its files in ``output_dir/wandb``."""

    package = "wandb"

    def _start(self, run_id):
        self._run = self._library.init(
            id=run_id,
            resume="allow",
            name=self._name,
            config=self._config,
            dir=self._output_dir,
        )
        return self._run.id

    def _log(self, iteration, scalars, images):
        images = {name: self._library.Image(image) for name, image in images.items()}
        self._run.log({**scalars, **images}, step=iteration)

    def _end(self, status):
        self._run.finish(exit_code=0 if status == FINISHED else 1)


class MlflowWriter(TrackingWriter):
    """:class:`TrackingWriter` for MLflow, which keeps the config that the run began with."""

    package = "mlflow"

    def _start(self, run_id):
        found = self._library.start_run(run_id=run_id, run_name=self._name).info.run_id
        if run_id is None:
            self._library.log_params(self._config)
        return found

    def _log(self, iteration, scalars, images):
        scalars = {_allowed(name): value for name, value in scalars.items()}
        self._library.log_metrics(scalars, step=iteration)
        for name, image in images.items():
            self._library.log_image(image, key=_allowed(name), step=iteration)

    def _end(self, status):
        self._library.end_run(status)


TRACKERS = {writer.package: writer for writer in (WandbWriter, MlflowWriter)}


def build_tracker(name: str, output_dir: str, config: dict[str, str]) -> TrackingWriter | None:
    """Build the tracker ``name`` of ``TRACKERS`` on the main process; "": none."""
    look_up_option(name, ("", *TRACKERS), "TRACKING", ConfigError)
    return TRACKERS[name](output_dir, config) if name and comm.is_main_process() else None


def _allowed(name: str) -> str:
    """Return a name with "_" for what MLflow refuses, such as the "+" of regions."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)
