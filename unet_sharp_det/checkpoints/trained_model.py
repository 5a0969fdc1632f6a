"""The one door to a trained model: its config, its weights and the names of what it finds."""

import hashlib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ..errors import ConfigError, SchemeError, UserError, first_line
from ..modeling.pruning import cut_to_level
from ..runtime.device import fall_back_to_cpu
from .class_names import check_class_names, class_names
from .config import config_of
from .loading import SkipCheckpointer
from .weight_files import read_weights

#: The networks of timm with most parameters (weights and biases are one each) have 2,000.
_MOST_PARAMETERS = 10_000


class TrainedModel(NamedTuple):
    """A model in eval mode, and its config with ``MODEL.WEIGHTS`` and ``MODEL.CLASS_NAMES``."""

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
        weights, config_file, config_opts: see :func:`config_of`.
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
    # Before its network takes memory:
    SkipCheckpointer(network, trained=True, trust_pickle=trust_pickle).check(path)
    return load_trained_model(cfg, trust_pickle)


def identify_model(path, config_file=None, config_opts: Sequence[str] = ()) -> dict[str, str]:
    """Return the first digits of the SHA-256 of a checkpoint and of its config, as
    :func:`config_of` finds them; device and places do not count."""
    cfg = config_of(path, config_file, config_opts)
    weights = hashlib.sha256(Path(cfg.MODEL.WEIGHTS).read_bytes())
    cfg.MODEL.WEIGHTS = cfg.MODEL.DEVICE = cfg.OUTPUT_DIR = ""
    config = hashlib.sha256(cfg.dump().encode())
    return {"weights": weights.hexdigest()[:16], "config": config.hexdigest()[:16]}


def load_trained_model(cfg: CfgNode, trust_pickle: bool = False) -> TrainedModel:
    """Build the model of ``cfg``, without a GPU on the CPU, and load ``MODEL.WEIGHTS``, all of it.

    With ``TEST.PRUNE_TO_LEVEL`` the model is cut down to that level, and its config with it.

    Raises:
        ConfigError, CheckpointError: the config or the weights are unusable.
    """
    cfg = cfg.clone()
    cfg.defrost()
    running = cfg.clone()
    running.SOLVER.AMP.ENABLED = False
    fall_back_to_cpu(running)
    model = _build(running)
    checkpointer = SkipCheckpointer(model, trained=True, trust_pickle=trust_pickle)
    rest = checkpointer.load(cfg.MODEL.WEIGHTS)
    names = list(cfg.MODEL.CLASS_NAMES) or rest.get("class_names") or class_names(cfg)
    check_class_names(names, cfg, cfg.MODEL.WEIGHTS)
    cfg.MODEL.CLASS_NAMES = list(names)
    if level := cfg.TEST.PRUNE_TO_LEVEL:
        return TrainedModel(*cut_to_level(model, cfg, level, cfg.MODEL.SEM_SEG_HEAD.INFERENCE))
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
        kind = type(error).__name__
        raise ConfigError(
            f"its model cannot be built, a value of the config is wrong ({kind}: "
            f"{first_line(error)})."
        ) from error


def _module_hint(path: str, trust_pickle: bool) -> str:
    """Which modules a checkpoint names for its schemes: never imported, for it may be anybody's."""
    modules = read_weights(path, trust_pickle).get("scheme_modules")
    modules = modules if isinstance(modules, list) else []
    names = " and ".join(each for each in map(str, modules) if re.fullmatch(r"[\w.]{1,99}", each))
    return f" It was trained with a scheme of {names}: import that first." if names else ""
