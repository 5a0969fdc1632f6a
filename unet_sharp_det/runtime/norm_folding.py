"""Batch norms that are taken into the convolutions before them."""

import itertools

import torch
from detectron2.layers import Conv2d
from torch import nn

# By their names: importing timm for its classes would take a second.
_CONVOLUTIONS = {"Conv2d", "Conv3d", "Conv2dSame"}
_NORMS = {"BatchNorm2d", "BatchNorm3d", "BatchNormAct2d"}
_NORMS |= {"FrozenBatchNorm2d", "FrozenBatchNormAct2d"}


def fold_norms(model: nn.Module) -> None:
    """Fold the batch norms of a model in eval mode, in place: an operation less for each.

    A norm follows its convolution where detectron2's ``Conv2d`` holds it, in an ``nn.Sequential``,
    and in the blocks of timm, which name their layers in the order in which they run.
    """
    for module in list(model.modules()):
        if type(module) is Conv2d and _is_one_of(_NORMS, module.norm):
            _fold(module, module.norm)
            module.norm = None
        if isinstance(module, nn.Sequential) or type(module).__module__.startswith("timm."):
            for (_, conv), (name, norm) in itertools.pairwise(list(module.named_children())):
                if _is_one_of(_CONVOLUTIONS, conv) and _is_one_of(_NORMS, norm):
                    _fold(conv, norm)
                    setattr(module, name, getattr(norm, "act", nn.Identity()))


def _is_one_of(names: set[str], module: nn.Module | None) -> bool:
    return type(module).__name__ in names


@torch.no_grad()
def _fold(conv: nn.Conv2d | nn.Conv3d, norm: nn.Module) -> None:
    """Let the convolution compute ``norm(conv(x))``."""
    factor = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight
    bias = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    bias = bias * factor if norm.bias is None else bias * factor + norm.bias
    weight = conv.weight * factor.view(-1, *[1] * (conv.weight.dim() - 1))
    conv.weight = nn.Parameter(weight, requires_grad=False)
    conv.bias = nn.Parameter(bias, requires_grad=False)
