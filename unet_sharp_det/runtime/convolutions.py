"""Convolutions that take in the norms behind them, or run on a CPU without copies of their maps."""

import itertools

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import Tensor, nn

# By their names: importing timm for its classes would take a second.
_CONVOLUTIONS = {"Conv2d", "Conv3d", "Conv2dSame"}
_NORMS = {"BatchNorm2d", "BatchNorm3d", "BatchNormAct2d"}
_NORMS |= {"FrozenBatchNorm2d", "FrozenBatchNormAct2d"}

#: Up to so many input channels a 1 x 1 convolution by oneDNN is up to twice as fast as by torch.
_FEW = 32


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


def speed_up_convolutions(model: nn.Module) -> None:
    """Replace convolutions of a model in eval mode, in place, by equal ones.

    TensorFlow's "same" padding, of timm's ``Conv2dSame``, is as large on both sides only if the
    size of the map is odd. For even sizes a row and a column of zeros in the kernel take its place.

    On one thread, torch computes 1 x 1 convolutions of single images itself, but not dilated ones,
    which are the same: those of few channels are said to be dilated.

    An activation after a convolution takes the place of its map.
    """
    for parent in list(model.modules()):
        if type(parent) is Conv2d and (
            parent.activation is F.relu or isinstance(parent.activation, nn.ReLU)
        ):
            parent.activation = nn.ReLU(inplace=True)
        for name, child in list(parent.named_children()):
            if type(child).__name__ == "Conv2dSame" and child.stride == (2, 2):
                setattr(parent, name, _EvenConv2d(child))
            elif isinstance(child, nn.Conv2d) and child.kernel_size == child.stride == (1, 1):
                if child.in_channels <= _FEW and child.groups == 1:
                    child.dilation = (2, 2)


class _EvenConv2d(nn.Module):
    """A ``Conv2dSame`` of stride 2, without padding a copy of maps of even size."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv
        self.weight = nn.Parameter(F.pad(conv.weight, (1, 0, 1, 0)), requires_grad=False)
        self.padding = conv.kernel_size[0] // 2

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / 2, W / 2), rounded up."""
        if x.shape[2] % 2 or x.shape[3] % 2:
            return self.conv(x)
        return F.conv2d(x, self.weight, self.conv.bias, 2, self.padding, groups=self.conv.groups)
