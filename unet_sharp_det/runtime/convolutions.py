"""Convolutions that take in the norms behind them, or run on a CPU without copies of their maps."""

import itertools

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import Tensor, nn

# By their names: importing timm for its classes would take a second, and models lie above.
_CONVOLUTIONS = {"Conv2d", "Conv3d", "Conv2dSame"}
_NORMS = {"BatchNorm2d", "BatchNorm3d", "BatchNormAct2d"}
_NORMS |= {"FrozenBatchNorm2d", "FrozenBatchNormAct2d"}
_GRIDS = {"SkipGrid"}

#: (input, weight, bias, padding, stride, dilation, groups, activation, its numbers, its algorithm)
CONVOLVE = torch.ops.mkldnn._convolution_pointwise


def fold_norms(model: nn.Module) -> None:
    """Fold the batch norms of a model in eval mode, in place: an operation less for each.

    A norm follows its convolution where detectron2's ``Conv2d`` holds it, in an ``nn.Sequential``,
    and in the blocks of timm, which name their layers in the order in which they run; but for those
    with a ``fuse`` of their own, as of RepViT, which add maps before the norm. A convolution whose
    map is an output of a timm model, as GhostNet's first one, keeps its norm.
    """
    for module in list(model.modules()):
        if type(module) is Conv2d and _is_one_of(_NORMS, module.norm):
            _fold(module, module.norm)
            module.norm = None
        is_block = type(module).__module__.startswith("timm.") and not hasattr(module, "fuse")
        if isinstance(module, nn.Sequential) or is_block:
            outputs = getattr(module, "return_layers", ())
            for (place, conv), (name, norm) in itertools.pairwise(list(module.named_children())):
                is_pair = _is_one_of(_CONVOLUTIONS, conv) and _is_one_of(_NORMS, norm)
                if is_pair and place not in outputs:
                    _fold(conv, norm)
                    setattr(module, name, nn.Identity())
                    if hasattr(norm, "act"):
                        setattr(module, place, nn.Sequential(conv, norm.act))


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
    """Replace 2D convolutions of a model in eval mode on a CPU, in place, by equal ones of oneDNN.

    Those of a :class:`.SkipGrid`, which takes some of their weights for itself, stay.
    """
    grids = (module for module in model.modules() if _is_one_of(_GRIDS, module))
    stay = {module for grid in grids for module in grid.modules()}
    for parent in [module for module in model.modules() if module not in stay]:
        for name, child in list(parent.named_children()):
            if type(child).__name__ == "Conv2dSame" and child.stride == (2, 2):
                setattr(parent, name, SameConv2d(child))
            elif FusedConv2d.computes(child):
                setattr(parent, name, FusedConv2d(child))
        if type(parent) is nn.Sequential:
            layers = [each for each in parent.named_children() if type(each[1]) is not nn.Identity]
            for (_, conv), (name, activation) in itertools.pairwise(layers):
                is_free = isinstance(conv, FusedConv2d) and type(conv.activation) is nn.Identity
                if is_free and type(activation) in _POST_OPS:
                    conv.activation = activation
                    setattr(parent, name, nn.Identity())


#: Activation -> the name and the numbers by which oneDNN knows it.
_POST_OPS = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
    nn.Hardswish: ("hardswish", []),
}


class FusedConv2d(nn.Module):
    """A convolution by oneDNN, and in the same pass over its result the activation after it.

    torch calls oneDNN for the convolution alone, and not for 1 x 1 kernels on one thread.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.sizes = [list(each) for each in (conv.padding, conv.stride, conv.dilation)]
        self.groups = conv.groups
        self.activation = _activation_of(conv)

    @staticmethod
    def computes(module: nn.Module) -> bool:
        """Whether ``module`` is such a convolution: torch's, or detectron2's without a norm."""
        return (
            type(module) in (nn.Conv2d, Conv2d)
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
            and getattr(module, "norm", None) is None
            and type(_activation_of(module)) in _POST_OPS
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K, H', W')."""
        return self._convolve(x, self.weight)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        arguments = [x, weight, self.bias]
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            arguments = [each if each is None else each.to(dtype) for each in arguments]
        post_op = _POST_OPS[type(self.activation)]
        return CONVOLVE(*arguments, *self.sizes, self.groups, *post_op, "")


class SameConv2d(FusedConv2d):
    """timm's ``Conv2dSame`` of stride 2, which pads as TensorFlow does, without a padded copy.

    Where it would pad one pixel less before the map than after it, the kernel begins with a zero.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        self.sizes[0] = [kernel // 2 for kernel in conv.kernel_size]

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        zeros = [
            1 - size % 2 * (kernel % 2)
            for size, kernel in zip(x.shape[2:], weight.shape[2:], strict=True)
        ]
        return super()._convolve(x, F.pad(weight, (zeros[1], 0, zeros[0], 0)))


def _activation_of(conv: nn.Conv2d) -> nn.Module:
    activation = getattr(conv, "activation", None) or nn.Identity()
    return nn.ReLU() if activation is F.relu else activation
