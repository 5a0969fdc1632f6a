"""What identifies a trained model, so that results of two are never mixed."""

import hashlib
from collections.abc import Sequence

from ..checkpoints.config import config_of

_DIGITS = 16


def identify_model(path, config_file=None, config_opts: Sequence[str] = ()) -> dict[str, str]:
    """Return the first digits of the SHA-256 of a checkpoint and of its config.

    The device, the folder of the training and the place of the checkpoint do not count.

    Args:
        path, config_file, config_opts: as of :meth:`Predictor.from_checkpoint`.

    Raises:
        CheckpointError, ConfigError: a file is missing or unusable.
    """
    cfg = config_of(path, config_file, config_opts)
    path = cfg.MODEL.WEIGHTS
    cfg.MODEL.WEIGHTS = cfg.MODEL.DEVICE = cfg.OUTPUT_DIR = ""
    config = hashlib.sha256(cfg.dump().encode())
    with open(path, "rb") as file:
        weights = hashlib.sha256()
        while block := file.read(1 << 20):
            weights.update(block)
    return {"weights": weights.hexdigest()[:_DIGITS], "config": config.hexdigest()[:_DIGITS]}
