"""Norms of fixed statistics multiplied into the convolutions before them."""

import copy
import itertools
from collections import Counter

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from timm.layers import BatchNormAct2d, FrozenBatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..modeling.timm_backbone import TimmBackbone

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (_BatchNorm, FrozenBatchNorm2d, FrozenBatchNormAct2d)
_WITH_ACTIVATION = (BatchNormAct2d, FrozenBatchNormAct2d)


def fold_norms(model: nn.Module) -> int:
    """Fold batch norms, frozen or not, into the convolutions that feed them, in place.

    ``w (conv(x) - mean) / std + b`` is a convolution with other weights. A norm is folded where it
    is sure that nothing else takes the convolution's result: in detectron2's ``Conv2d(norm=...)``,
    in neighbours of an ``nn.Sequential``, and in timm's networks where a run on a random image
    shows which norm follows which convolution, and the folded network gives the same. All other
    norms stay.

    Args:
        model: in eval mode.

    Returns:
        int: how many norms were folded.
    """
    shared = _shared_weights(model)
    count = 0
    for module in list(model.modules()):
        if isinstance(module, Conv2d) and _is_foldable(module, module.norm, shared):
            _fold(module, module.norm)
            module.norm = None
            count += 1
        elif isinstance(module, nn.Sequential):
            count += _fold_neighbours(module, shared)
        elif isinstance(module, TimmBackbone):
            count += _fold_as_run(module, shared)
    return count


def _shared_weights(model: nn.Module) -> set[int]:
    """The ids of the convolutions' weights that several places of the model use."""
    modules = [module for _, module in model.named_modules(remove_duplicate=False)]
    uses = Counter(id(module.weight) for module in modules if isinstance(module, _CONVS))
    return {weight for weight, count in uses.items() if count > 1}


def _is_foldable(conv, norm, shared: set[int]) -> bool:
    return (
        isinstance(conv, _CONVS)
        and isinstance(conv.weight, nn.Parameter)
        and id(conv.weight) not in shared
        and isinstance(norm, _NORMS)
        and norm.running_var is not None
    )


@torch.no_grad()
def _fold(conv: nn.Module, norm: nn.Module) -> None:
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    shift = shift * scale if norm.bias is None else shift * scale + norm.bias
    conv.weight.mul_(scale.view(-1, *[1] * (conv.weight.dim() - 1)))
    conv.bias = nn.Parameter(shift, requires_grad=False)


def _what_is_left(norm: nn.Module) -> nn.Module:
    """What a folded norm still does: nothing, or timm's activation."""
    return norm.act if isinstance(norm, _WITH_ACTIVATION) else nn.Identity()


def _fold_neighbours(layers: nn.Sequential, shared: set[int]) -> int:
    count = 0
    for (_, conv), (name, norm) in itertools.pairwise(list(layers.named_children())):
        is_plain = getattr(conv, "norm", None) is None and getattr(conv, "activation", None) is None
        if is_plain and _is_foldable(conv, norm, shared):
            _fold(conv, norm)
            setattr(layers, name, _what_is_left(norm))
            count += 1
    return count


def _fold_as_run(backbone: TimmBackbone, shared: set[int]) -> int:
    first = next((m for m in backbone.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or not any(isinstance(module, _NORMS) for module in backbone.modules()):
        return 0
    side = 2 * max(shape.stride for shape in backbone.output_shape().values())
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(
        1, first.in_channels, side, side, generator=generator, dtype=first.weight.dtype
    )
    # Compared on the CPU: a GPU's convolutions (TF32) are less exact than what is asked for.
    original = copy.deepcopy(backbone.model).cpu()
    folded = copy.deepcopy(original)
    names = {module: name for name, module in folded.named_modules()}
    shared = shared | _shared_weights(folded)
    pairs = [p for p in _conv_before_norm(folded, image) if _is_foldable(*p, shared)]
    for conv, norm in pairs:
        _fold(conv, norm)
        parent, _, own = names[norm].rpartition(".")
        setattr(folded.get_submodule(parent), own, _what_is_left(norm))
    with torch.no_grad():
        same = all(map(_is_close, folded(image), original(image)))
    if same:
        backbone.model = folded.to(first.weight.device)
    return len(pairs) if same else 0


@torch.no_grad()
def _conv_before_norm(network: nn.Module, image: Tensor) -> list[tuple[nn.Module, nn.Module]]:
    """Run the network: each convolution that runs once, with the norm that takes its result."""
    made_by: dict[int, nn.Module] = {}
    kept, pairs, runs = [], [], Counter()

    def note_result(conv, _, result):
        made_by[id(result)] = conv
        kept.append(result)  # else its id would be given to another tensor
        runs[conv] += 1

    def note_input(norm, inputs):
        pairs.append((made_by.get(id(inputs[0])), norm))
        runs[norm] += 1

    hooks = [
        module.register_forward_hook(note_result)
        if isinstance(module, _CONVS)
        else module.register_forward_pre_hook(note_input)
        for module in network.modules()
        if isinstance(module, (*_CONVS, *_NORMS))
    ]
    try:
        network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return [(conv, norm) for conv, norm in pairs if runs[conv] == 1 == runs[norm]]


def _is_close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-4 * b.abs().max())
