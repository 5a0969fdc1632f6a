"""LazyConfigs from the command line, with errors that name the nearest key."""

import inspect
import logging
import os

import torch
from detectron2.config import LazyConfig
from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig

from ..errors import ConfigError, look_up_option
from .mixed_precision import lacks_precision

logger = logging.getLogger(__name__)


def load_lazy_cfg(config_file: str, opts: list[str]) -> DictConfig:
    """Load a LazyConfig, apply ``path.key=value`` options, and fall back to the CPU.

    Raises:
        ConfigError: the file does not exist, an option is malformed or names a key that neither
            the config nor the signature of the node's ``_target_`` knows.
    """
    if not os.path.isfile(config_file):
        raise ConfigError(f"--config-file: no file '{config_file}'; see configs/README.md.")
    cfg = LazyConfig.load(config_file)
    for option in opts:
        _check_option(cfg, option)
    try:
        cfg = LazyConfig.apply_overrides(cfg, opts)
    except Exception as error:  # hydra and omegaconf raise kinds of their own
        raise ConfigError(f"the command line: {error}") from error
    if cfg.train.device == "cuda" and not torch.cuda.is_available():
        logger.warning("No CUDA device: running on the CPU.")
        cfg.train.device = "cpu"
    precision, option = amp_precision(cfg.train.amp), "train.amp.precision"
    reason = precision and lacks_precision(precision, cfg.train.device, option)
    if reason:
        logger.warning(f"train.amp: {reason}: training in float32.")
        cfg.train.amp.enabled = False
    return cfg


def amp_precision(amp: DictConfig) -> str | None:
    """What ``train.amp`` asks for; None: float32. detectron2's own has no ``precision``: fp16."""
    return amp.get("precision", "fp16") if amp.enabled else None


def _check_option(cfg: DictConfig, option: str) -> None:
    path, equals, _ = option.partition("=")
    if not equals:
        raise ConfigError(f"options are 'path.key=value', got '{option}'.")
    node = cfg
    for key in path.split("."):
        if isinstance(node, ListConfig):
            look_up_option(key, map(str, range(len(node))), f"{option}: index", ConfigError)
            node = node[int(key)]
        elif isinstance(node, DictConfig):
            known = [*node, *_arguments_of_target(node)]
            look_up_option(key, known, f"{option}: config key", ConfigError)
            node = node._get_node(key) if key in node else None
        else:
            return


def _arguments_of_target(node: DictConfig) -> list[str]:
    if "_target_" not in node:
        return []
    target = node._target_
    return list(inspect.signature(locate(target) if isinstance(target, str) else target).parameters)
