"""The config that a checkpoint was trained with: given, inside of the file, or beside it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

from unet_sharp_det.engine import setup_cfg
from unet_sharp_det.errors import CheckpointError, ConfigError
from unet_sharp_det.weight_files import read_safetensors_config


def config_of(path, config_file=None, opts: Sequence[str] = ()) -> CfgNode:
    """Return the config of a checkpoint.

    Where it was trained does not count: ``MODEL.DEVICE`` is the first GPU, unless ``config_file``
    or ``opts`` say otherwise; without a GPU :func:`fall_back_to_cpu` makes it the CPU.

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
    if config_file is not None:
        return setup_cfg(str(config_file), list(opts))
    opts = ["MODEL.DEVICE", "cuda", *opts]
    inside = read_safetensors_config(path) if path.suffix == ".safetensors" else None
    if inside is not None:
        return _setup_text(inside, f"the config in {path}", opts)
    beside = path.parent / "config.yaml"
    if not beside.is_file():
        raise ConfigError(
            f"{path}: there is no config.yaml beside it. Name the config of its training by "
            "config_file (--config-file)."
        )
    return setup_cfg(str(beside), opts)


def _setup_text(text: str, where: str, opts: Sequence[str]) -> CfgNode:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        try:
            return setup_cfg(file.name, list(opts))
        except ConfigError as error:
            raise ConfigError(str(error).replace(file.name, where)) from error
