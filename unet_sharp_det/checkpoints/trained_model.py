"""The one door to a trained model: its config, its weights and the names of what it finds."""

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ..errors import ConfigError, SchemeError, UserError, first_line
from ..runtime.device import fall_back_to_cpu
from .class_names import check_class_names, class_names
from .config import config_of
from .loading import SkipCheckpointer
from .weight_files import read_weights

#: The networks of timm with most parameters (weights and biases are one each) have 2,000.
_MOST_PARAMETERS = 10_000


@dataclass(frozen=True)
class TrainedModel:
    """A model with all weights of its training, in eval mode.

    Attributes:
        model: on ``MODEL.DEVICE`` of ``cfg``, or on the CPU if there is no GPU.
        cfg: of its training, with ``MODEL.WEIGHTS`` and ``MODEL.CLASS_NAMES``.
    """

    model: nn.Module
    cfg: CfgNode


def open_trained_model(
    weights,
    config_file=None,
    config_opts: Sequence[str] = (),
    *,
    device: str | None = None,
    trust_pickle: bool = False,
) -> TrainedModel:
    """Open a checkpoint, which may be a stranger's, or a model of the package.

    Args:
        weights: a .pth or .safetensors file, or a name of :mod:`unet_sharp_det.model_zoo`.
        config_file: YAML of its training. None: the one inside of a .safetensors file, else
            ``config.yaml`` beside the checkpoint.
        config_opts: keys and values in turn that change the config.
        device: e.g. ``cpu`` or ``cuda:1``. None: ``config_file``'s or ``config_opts``'; without
            them the first GPU, or the CPU without one.
        trust_pickle: whether to load a file that can run code; only for files of your own.

    Raises:
        ConfigError, CheckpointError: the config or the weights are missing or unusable.
        SchemeError: the model has a skip scheme that nothing registered.
    """
    cfg = config_of(weights, config_file, config_opts)
    if device is not None:
        cfg.MODEL.DEVICE = device
    path = cfg.MODEL.WEIGHTS
    try:
        network = build_on_meta(cfg)
    except SchemeError as error:
        raise SchemeError(f"{path}: {error}{_module_hint(path, trust_pickle)}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error} Name its config by --config-file.") from error
    _checkpointer(network, trust_pickle).check(path)  # before its network takes memory
    return load_trained_model(cfg, trust_pickle)


def identify_model(path, config_file=None, config_opts: Sequence[str] = ()) -> dict[str, str]:
    """Return the first digits of the SHA-256 of a checkpoint and of its config.

    The device, the folder of the training and the place of the checkpoint do not count. Arguments
    and errors are those of :func:`config_of`.
    """
    cfg = config_of(path, config_file, config_opts)
    weights = hashlib.sha256(Path(cfg.MODEL.WEIGHTS).read_bytes())
    cfg.MODEL.WEIGHTS = cfg.MODEL.DEVICE = cfg.OUTPUT_DIR = ""
    config = hashlib.sha256(cfg.dump().encode())
    return {"weights": weights.hexdigest()[:16], "config": config.hexdigest()[:16]}


def load_trained_model(cfg: CfgNode, trust_pickle: bool = False) -> TrainedModel:
    """Build the model that ``cfg`` describes and load ``MODEL.WEIGHTS``, all of it.

    Raises:
        ConfigError, CheckpointError: the config or the weights are unusable.
    """
    cfg = cfg.clone()
    cfg.defrost()
    running = cfg.clone()
    running.SOLVER.AMP.ENABLED = False
    fall_back_to_cpu(running)
    model = _build(running)
    rest = _checkpointer(model, trust_pickle).load(cfg.MODEL.WEIGHTS)
    names = list(cfg.MODEL.CLASS_NAMES) or rest.get("class_names") or class_names(cfg)
    check_class_names(names, cfg, cfg.MODEL.WEIGHTS)
    cfg.MODEL.CLASS_NAMES = list(names)
    return TrainedModel(model.eval(), cfg)


def build_on_meta(cfg: CfgNode) -> nn.Module:
    """Build the model of ``cfg`` without memory for its weights, in evaluation mode.

    Raises:
        ConfigError: it cannot be built, or is larger than any network.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    count = itertools.count(1)

    def check_size(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        if next(count) > _MOST_PARAMETERS:
            raise ConfigError(f"its model has more than {_MOST_PARAMETERS} parameters.")

    watch = register_module_parameter_registration_hook(check_size)
    try:
        with torch.device("meta"):
            return _build(cfg).eval()
    finally:
        watch.remove()


def _build(cfg: CfgNode) -> nn.Module:
    try:
        return build_model(cfg)
    except UserError:
        raise
    except Exception as error:  # of any kind, for a name or a size that is wrong
        raise ConfigError(
            "its model cannot be built, a value of its config is not known or does not fit the "
            f"others ({type(error).__name__}: {first_line(error)})."
        ) from error


def _module_hint(path: str, trust_pickle: bool) -> str:
    """Which modules a checkpoint names for its schemes: never imported, for it may be anybody's."""
    modules = read_weights(path, trust_pickle).get("scheme_modules")
    are_names = isinstance(modules, list) and all(
        isinstance(name, str) and re.fullmatch(r"[\w.]{1,100}", name) for name in modules
    )
    if not are_names or not modules:
        return ""
    return f" It was trained with a scheme of {' and '.join(modules)}: import that first."


def _checkpointer(model: nn.Module, trust_pickle: bool) -> SkipCheckpointer:
    return SkipCheckpointer(model, trained=True, trust_pickle=trust_pickle)
