"""The config that a checkpoint was trained with: given, inside of the file, or beside it."""

from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

from unet_sharp_det.engine import setup_cfg
from unet_sharp_det.errors import CheckpointError, ConfigError


def config_of(path, config_file=None, opts: Sequence[str] = ()) -> CfgNode:
    """Return the config of a checkpoint.

    Args:
        path: the checkpoint.
        config_file: None: the metadata of a .safetensors file, else ``config.yaml`` beside it.
        opts: keys and values in turn that change it.

    Raises:
        CheckpointError: there is no such checkpoint.
        ConfigError: there is no config, or it is no valid one.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint.")
    if config_file is None:
        config_file = path.parent / "config.yaml"
        if not config_file.is_file():
            raise ConfigError(
                f"{path}: there is no config.yaml beside it. Name the config of its training by "
                "config_file (--config-file)."
            )
    return setup_cfg(str(config_file), list(opts))
