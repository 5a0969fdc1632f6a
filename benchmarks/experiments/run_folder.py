"""The folder of one run and seed: OUTPUT_DIR of its training, its record, its lock."""

import functools
import re
from pathlib import Path

from detectron2.config import CfgNode

from unet_sharp_det import files
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import ConfigError
from unet_sharp_det.report.environment import fingerprint, flatten_config

RECORD_FILE, LOG_FILE, LOCK_FILE = "run.json", "process.log", "run.lock"
STATUSES = ("waiting", "running", "stopped", "failed", "finished")

_CHECKPOINT = re.compile(r"model_\d+\.pth")


class RunFolder:
    """``<experiment>/<run>/seed<k>``; whoever holds the lock may write.

    ``run.json`` has the status (of ``STATUSES``), the config without defaults, the command, the
    environment, the states of the code, the fingerprint of what was evaluated, and the costs of all
    processes. A run that is "running" while its lock is free was cut off.
    """

    def __init__(self, experiment_folder, run: str, seed: int):
        self.path = Path(experiment_folder, run, f"seed{seed}")

    @property
    def record(self) -> dict:
        """The content of ``run.json``; a run that never started is waiting."""
        path = self.path / RECORD_FILE
        if not path.is_file():
            return {"status": "waiting"}
        return files.read_json(path, dict, "Delete the folder to run it again.")

    @property
    def final_weights(self) -> Path:
        """Where the training leaves its weights, before the evaluation at its end."""
        return self.path / "model_final.pth"

    @property
    def fingerprint(self) -> str:
        """The first 12 digits of the final weights' SHA-256; "" without them."""
        return fingerprint(self.final_weights)

    @property
    def _last_checkpoint(self) -> Path:
        return self.path / "last_checkpoint"

    @property
    def cost(self) -> dict | None:
        """CPU seconds and peak memory (MiB) of all processes so far; None where they are unknown,
        or something is done twice."""
        if not self._last_checkpoint.is_file():
            return {"cpu_s": 0.0, "peak_memory_mib": 0.0}
        return self.record.get("cost") if self.record["status"] == "stopped" else None

    def write_record(self, record: dict) -> None:
        """Replace ``run.json``."""
        files.write_json(self.path / RECORD_FILE, record, indent=2)

    def lock(self):
        """Return an open file that holds the lock until it is closed, here and in every process
        that inherited it; a closed one if another process has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        handle = open(self.path / LOCK_FILE, "a")
        try:
            files.lock(handle.fileno())
        except BlockingIOError:
            handle.close()
        return handle

    def check_config(self, cfg: CfgNode) -> None:
        """Raise a ConfigError if a started run had another config."""
        record = self.record
        if "config" in record and (changed := describe_changes(record["config"], cfg)):
            raise ConfigError(
                f"{self.path} was started with another config ({'; '.join(changed)}). Undo the "
                "change, or delete that folder to run it again."
            )

    def log_tail(self) -> str:
        """The end of the last process' output."""
        path = self.path / LOG_FILE
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        return "\n".join(text.splitlines()[-20:])[-4000:]

    def drop_checkpoints(self) -> None:
        """Delete what only ``--resume`` reads: all numbered checkpoints but the last one, and of a
        training that is done that one too."""
        last = self._last_checkpoint
        needed = last.read_text().strip() if last.is_file() else ""
        for path in self.path.glob("model_*.pth"):
            if _CHECKPOINT.fullmatch(path.name) and path.name != needed:
                path.unlink()


def own_settings(cfg: CfgNode) -> dict[str, str]:
    """Return ``{KEY: value as text}`` of a config, without what has its default."""
    defaults = _defaults()
    return {
        key: value
        for key, value in flatten_config(cfg.dump()).items()
        if defaults.get(key) != value
    }


def describe_changes(settings: dict[str, str], cfg: CfgNode) -> list[str]:
    """Return a ``KEY: was A, now B`` for each key in which a config is not as it was.

    Args:
        settings: as it was, as of :func:`own_settings`. Keys that are not in it, those that were
            added since then among them, had their defaults of today.
        cfg: as it is.
    """
    old, new = {**_defaults(), **settings}, flatten_config(cfg.dump())
    return [
        f"{key}: was {old.get(key)}, now {new.get(key)}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


@functools.cache
def _defaults() -> dict[str, str]:
    return flatten_config(setup_cfg().dump())
