"""Access to the models of this folder by their names; unknown ones raise a ConfigError."""

from pathlib import Path

from detectron2.config import CfgNode
from torch import nn

from ..checkpoints.config import config_of
from ..checkpoints.sources import model_file
from ..checkpoints.sources import model_names as names
from ..checkpoints.trained_model import open_trained_model
from ..config.reading import find_config as get_config_file  # noqa: F401
from ..errors import ConfigError, look_up_option


def get_checkpoint_file(name: str) -> Path:
    """Return the file of a model."""
    return model_file(look_up_option(name, names(), "model_zoo", ConfigError))


def get_config(name: str) -> CfgNode:
    """Return the config of a model, its file as ``MODEL.WEIGHTS``."""
    return config_of(get_checkpoint_file(name))


def get(name: str, device: str | None = None) -> nn.Module:
    """Return a model with its weights, in eval mode, by default on the first GPU or the CPU."""
    return open_trained_model(get_checkpoint_file(name), device=device).model
