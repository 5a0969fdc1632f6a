"""The one door to a trained model: its config, its weights and the names of what it finds."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ..errors import ConfigError, UserError, first_line
from ..runtime.device import fall_back_to_cpu
from .class_names import check_class_names, class_names
from .config import config_of
from .loading import SkipCheckpointer

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
    path,
    config_file=None,
    config_opts: Sequence[str] = (),
    *,
    device: str | None = None,
    trust_pickle: bool = False,
) -> TrainedModel:
    """Open a checkpoint by its file, which may be a stranger's.

    Args:
        path: .pth or .safetensors.
        config_file: YAML of its training. None: the one inside of a .safetensors file, else
            ``config.yaml`` beside the checkpoint.
        config_opts: keys and values in turn that change the config.
        device: e.g. ``cpu`` or ``cuda:1``. None: ``config_file``'s or ``config_opts``'; without
            them the first GPU, or the CPU without one.
        trust_pickle: whether to load a file that can run code; only for files of your own.

    Raises:
        ConfigError, CheckpointError: the config or the weights are missing or unusable.
    """
    cfg = config_of(path, config_file, config_opts)
    cfg.MODEL.WEIGHTS = str(path)
    if device is not None:
        cfg.MODEL.DEVICE = device
    if config_file is None:  # Its network is compared with the file before it takes memory.
        try:
            network = build_on_meta(cfg)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error} Name its config by --config-file.") from error
        _checkpointer(network, trust_pickle).check(path)
    return load_trained_model(cfg, trust_pickle)


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


def _checkpointer(model: nn.Module, trust_pickle: bool) -> SkipCheckpointer:
    return SkipCheckpointer(model, trained=True, trust_pickle=trust_pickle)
