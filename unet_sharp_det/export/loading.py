"""Trained models on the CPU, whole or cut to a level."""

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from ..checkpoint import SkipCheckpointer
from ..pruning import prune_config, pruned_weights


def build_on_cpu(cfg: CfgNode) -> nn.Module:
    """The model of a config, whatever its MODEL.DEVICE."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    return build_model(cfg)


def load_on_cpu(cfg: CfgNode, checkpoint, trust_pickle: bool = False) -> nn.Module:
    """The model of a config with the weights of a file, in eval mode.

    Raises:
        CheckpointError: the file is missing, damaged, not trusted, or not of this model.
    """
    model = build_on_cpu(cfg).eval()
    SkipCheckpointer(model, trust_pickle=trust_pickle).load(str(checkpoint))
    return model


def cut_to_level(
    model: nn.Module, cfg: CfgNode, level: int, mode: str = "fast"
) -> tuple[nn.Module, CfgNode]:
    """L_k of a semantic network, in eval mode, and its config.

    Args:
        model, cfg: the whole network and its config; neither is changed.
        level: k.
        mode: ``fast`` or ``accurate``, see :func:`unet_sharp_det.pruning.prune_config`.

    Raises:
        ConfigError: the network has no such level, or was not trained for it.
    """
    pruned_cfg = prune_config(cfg, level, mode)
    pruned = build_on_cpu(pruned_cfg).eval()
    pruned.load_state_dict(pruned_weights(model.state_dict(), pruned))
    return pruned, pruned_cfg
