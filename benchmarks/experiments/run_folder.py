"""The folder of one run and seed: OUTPUT_DIR of its training, its record, its lock."""

import fcntl
import re
from pathlib import Path

from detectron2.config import CfgNode

from benchmarks.experiments.settings import describe_changes
from unet_sharp_det.errors import ConfigError
from unet_sharp_det.files import read_json, write_json, write_text
from unet_sharp_det.report.environment import flatten_config
from unet_sharp_det.report.training import CURVES_FILE, read_curves

RECORD_FILE, CONFIG_FILE, LOG_FILE, LOCK_FILE = (
    *("run.json", "experiment_config.yaml"),
    *("process.log", "run.lock"),
)
FINAL_WEIGHTS = "model_final.pth"
STATUSES = ("waiting", "running", "stopped", "failed", "finished")

_CHECKPOINT = re.compile(r"model_\d+\.pth")


class RunFolder:
    """``<folder>/<run>/seed<k>``; whoever holds the lock may write.

    ``run.json`` has the status (of ``STATUSES``), the command, the state of the code and the
    environment of the last start, the last lines of the log of a failure, and ``sessions``: one
    for each process, with its start (ISO 8601), seconds of wall and CPU, peak memory (MiB), and
    how it ended. A run that is "running" while its lock is free was cut off.
    """

    def __init__(self, path):
        """
        Args:
            path: of the folder; it need not exist.
        """
        self.path = Path(path)

    @property
    def record(self) -> dict:
        """The content of ``run.json``; a run that never started is waiting.

        Raises:
            UserError: the file is malformed.
        """
        path = self.path / RECORD_FILE
        if not path.is_file():
            return {"status": "waiting", "sessions": []}
        return read_json(path, dict, "Delete the folder to run it again.")

    @property
    def status(self) -> str:
        """Of ``STATUSES``."""
        return self.record["status"]

    @property
    def final_weights(self) -> Path:
        """Where the training leaves its weights, before the evaluation at its end."""
        return self.path / FINAL_WEIGHTS

    def write_record(self, record: dict) -> None:
        """Replace ``run.json``."""
        write_json(self.path / RECORD_FILE, record, indent=2)

    def lock(self):
        """Take the lock.

        Returns:
            an open file that holds the lock until it is closed, here and in every process that
            inherited it; None: another one has it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        handle = open(self.path / LOCK_FILE, "a")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            return None
        return handle

    @property
    def config(self) -> str:
        """The config of the first start, as YAML; "" before that."""
        path = self.path / CONFIG_FILE
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def config_changes(self, cfg: CfgNode) -> list[str]:
        """How ``cfg`` differs from the config of the first start, a line for each key."""
        config = self.config
        return describe_changes(flatten_config(config) or {}, cfg) if config else []

    def check_config(self, cfg: CfgNode) -> None:
        """Check that a started run has the config that it was started with.

        Raises:
            ConfigError: it has another one; the message names the differences.
        """
        if changed := self.config_changes(cfg):
            raise ConfigError(
                f"{self.path} was started with another config ({'; '.join(changed)}). Undo the "
                "change, name the run anew, or delete that folder to run it again."
            )

    def write_config(self, cfg: CfgNode) -> None:
        """Keep the config of the first start."""
        if not (self.path / CONFIG_FILE).is_file():
            write_text(self.path / CONFIG_FILE, cfg.dump())

    def seconds_per_iteration(self) -> float:
        """The last one that the training logged; 0: none yet."""
        curves = read_curves(self.path / CURVES_FILE)
        return float(curves["time"][1][-1]) if "time" in curves else 0.0

    def log_tail(self, lines: int = 20) -> str:
        """The end of the last process' output."""
        path = self.path / LOG_FILE
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        return "\n".join(text.splitlines()[-lines:])[-4000:]

    def drop_checkpoints(self) -> None:
        """Delete what only ``--resume`` reads: all numbered checkpoints but the last one, and of a
        training that is done that one too."""
        last = self.path / "last_checkpoint"
        needed = last.read_text().strip() if last.is_file() else ""
        for path in self.path.glob("model_*.pth"):
            if _CHECKPOINT.fullmatch(path.name) and path.name != needed:
                path.unlink()
