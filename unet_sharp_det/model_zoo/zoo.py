"""Access to the models of this folder by their names."""

from pathlib import Path

from detectron2.config import CfgNode
from torch import nn

from ..checkpoints.config import config_of
from ..checkpoints.trained_model import open_trained_model
from ..errors import CheckpointError, ConfigError, look_up_option

_FOLDER = Path(__file__).parent
# Of an installed package, and of a checkout.
_CONFIGS = (_FOLDER / "configs", _FOLDER.parents[1] / "configs")


def names() -> list[str]:
    """Return the names of the models."""
    return sorted(path.stem for path in _FOLDER.glob("*.safetensors"))


def get_checkpoint_file(name: str) -> Path:
    """Return the file of a model, e.g. for :meth:`Predictor.from_checkpoint`.

    Raises:
        ConfigError: there is no model of that name.
    """
    return _FOLDER / f"{look_up_option(name, names(), 'model_zoo', ConfigError)}.safetensors"


def get_config_file(name: str) -> str:
    """Return the path of a config of this project, as detectron2's function does of its own.

    Args:
        name: its path below ``configs``, e.g.
            ``DSB2018-InstanceSegmentation/mask_rcnn_R_50_unetsharp.yaml``.

    Raises:
        ConfigError: there is no config of that name.
    """
    folder = next(path for path in _CONFIGS if path.is_dir())
    known = [path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml")]
    known += [path.relative_to(folder).as_posix() for path in folder.rglob("*.py")]
    return str(folder / look_up_option(name, sorted(known), "Config", ConfigError))


def get_config(name: str) -> CfgNode:
    """Return the config of a model, its file as ``MODEL.WEIGHTS``.

    Raises:
        ConfigError: there is no model of that name.
    """
    path = get_checkpoint_file(name)
    cfg = config_of(path)
    cfg.MODEL.WEIGHTS = str(path)
    return cfg


def get(name: str, device: str | None = None) -> nn.Module:
    """Return a model with its weights, in eval mode.

    Args:
        device: e.g. ``cpu`` or ``cuda:1``. None: the first GPU, or the CPU without one.

    Raises:
        ConfigError: there is no model of that name.
    """
    return open_trained_model(get_checkpoint_file(name), device=device).model


def find_checkpoint(weights) -> Path:
    """Return the file that a user means: a path, or the name of a model that comes with us.

    Raises:
        CheckpointError: it is neither.
    """
    path = Path(weights)
    if path.is_file():
        return path
    try:
        return get_checkpoint_file(str(weights))
    except ConfigError as error:
        raise CheckpointError(
            f"{weights}: there is no such checkpoint, nor a model of that name in the package "
            f"({', '.join(names()) or 'none'})."
        ) from error
