"""Pruning a semantic network to L_k: the first k + 1 levels with the output X[0,k].

What X[0,k] depends on is, of UNet++ and UNet#, the triangle i + j <= k (UNet#, Sec. 2.4 and
Fig. 4): the table of the same scheme with fewer levels. So the config with fewer levels builds what
is left, and the weights of its nodes are copied.
"""

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from ..errors import ConfigError, look_up_option
from ..skip_schemes import build_table, prune
from .segmentation_head import INFERENCE
from .semantic_labels import is_semantic
from .skip_decoder import branch_nodes


def prune_config(cfg: CfgNode, level: int, inference: str = "fast") -> CfgNode:
    """The config of L_``level`` of the network that ``cfg`` describes.

    Args:
        cfg: of a semantic model with :class:`UNetSharpHead`; it is not changed.
        level: 1 .. number of levels - 1, where the last means no pruning.
        inference: ``fast`` keeps the branch X[0,level] alone; ``accurate`` keeps all branches of
            full size up to it and averages them.

    Raises:
        ConfigError: the network has no such level, its scheme cannot be pruned, or it has no
            branch there.
    """
    look_up_option(inference, INFERENCE, "--mode", ConfigError)
    head = cfg.MODEL.SEM_SEG_HEAD
    if not is_semantic(cfg):
        raise ConfigError(
            f"level {level}: only a semantic network has levels, those of its skip scheme, not "
            f"{cfg.MODEL.META_ARCHITECTURE} with {head.NAME}. Leave the level out."
        )
    _check_level(head, level)
    depth = level + 1
    averages = inference == "accurate" and head.DEEP_SUPERVISION in ("in", "all")
    pruned = cfg.clone()
    pruned.defrost()
    kept = list(head.IN_FEATURES[:depth])
    pruned.MODEL.SEM_SEG_HEAD.IN_FEATURES = kept
    pruned.MODEL.SEM_SEG_HEAD.NODE_CHANNELS = list(head.NODE_CHANNELS[:depth])
    pruned.MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION = "in" if averages else "none"
    pruned.MODEL.SEM_SEG_HEAD.INFERENCE = inference
    pruned.MODEL.UNET.CHANNELS = list(cfg.MODEL.UNET.CHANNELS[:depth])
    pruned.MODEL.TIMM.OUT_FEATURES = [f for f in cfg.MODEL.TIMM.OUT_FEATURES if f in kept]
    pruned.MODEL.TIMM.SIZE_DIVISIBILITY = cfg.MODEL.TIMM.SIZE_DIVISIBILITY or max(
        2 ** int(name.removeprefix("res")) for name in cfg.MODEL.TIMM.OUT_FEATURES
    )
    pruned.TEST.PRUNE_TO_LEVEL = 0
    return pruned


def cut_to_level(
    model: nn.Module, cfg: CfgNode, level: int, inference: str = "fast"
) -> tuple[nn.Module, CfgNode]:
    """L_``level`` of a semantic network, in eval mode, and its config.

    Args:
        model, cfg: the whole network and its config; neither is changed.
        level, inference: see :func:`prune_config`, whose errors it raises.
    """
    pruned_cfg = prune_config(cfg, level, inference)
    running = pruned_cfg.clone()
    running.MODEL.DEVICE = str(model.device)
    pruned = build_model(running).eval()
    weights = model.state_dict()
    pruned.load_state_dict({name: weights[name] for name in pruned.state_dict()})
    return pruned, pruned_cfg


def _check_level(head: CfgNode, level: int) -> None:
    depth, scheme = len(head.IN_FEATURES), head.SKIP_SCHEME
    if not 1 <= level < depth:
        raise ConfigError(
            f"level {level}: the network has {depth} levels. Give one of 1 to {depth - 1}."
        )
    table = build_table(scheme, depth)
    output = (0, level)
    if output not in table or prune(table, [output]) != build_table(scheme, level + 1):
        raise ConfigError(
            f"level {level}: scheme '{scheme}' has no node X[0,{level}] that is the output of the "
            "scheme with fewer levels. Prune unetpp or unetsharp."
        )
    branches = branch_nodes(table, depth, head.DEEP_SUPERVISION)
    if output not in branches:
        trained = ", ".join(f"X[{i},{j}]" for i, j in branches)
        raise ConfigError(
            f"level {level}: the network has no branch at X[0,{level}], but at {trained}. Train it "
            "with MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION in or all."
        )
