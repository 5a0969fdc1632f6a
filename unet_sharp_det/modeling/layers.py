"""What grids and encoders are made of: ``f``, convolutions that need less memory, TorchScript."""

import contextlib
import copy
import functools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils.checkpoint import checkpoint

from ..errors import ConfigError, SchemeError, look_up_option

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
CONV_FUNCTION = {2: F.conv2d, 3: F.conv3d}
INTERPOLATION = {
    "linear": {2: "bilinear", 3: "trilinear"},
    "nearest": {2: "nearest", 3: "nearest"},
}
# Of detectron2.layers.get_norm; the others know images alone.
_NORMS_3D = ("BN", "SyncBN", "GN", "nnSyncBN")
_NORMS = {2: (*_NORMS_3D, "FrozenBN", "naiveSyncBN", "naiveSyncBN_N", "LN"), 3: _NORMS_3D}


def conv_block(
    in_channels: int, out_channels: int, *, norm, dim: int = 2, bias: bool | None = None
) -> nn.Sequential:
    """``f``: 3x3 convolution, norm and ReLU of ``dim`` dimensions.

    Args:
        norm: as :func:`detectron2.layers.get_norm` takes it, in 3D ``BN``, ``SyncBN`` or ``GN``.
            "GN" has 32 groups, or as many as divide both 32 and the channels.
        bias: whether the convolution has one. None: exactly if there is no norm.
    """
    norm_layer = build_norm(norm, out_channels, dim)
    bias = norm_layer is None if bias is None else bias
    conv = CONV[dim](in_channels, out_channels, 3, padding=1, bias=bias)
    init_he(conv)
    layers = [conv, norm_layer, nn.ReLU(inplace=True)]
    return nn.Sequential(*(layer for layer in layers if layer is not None))


def build_norm(norm, channels: int, dim: int = 2) -> nn.Module | None:
    """The layer that ``norm`` names, see :func:`conv_block`; None: there is to be none.

    Raises:
        ConfigError: there is no such norm of ``dim`` dimensions.
    """
    if not norm:
        return None
    if isinstance(norm, str):
        look_up_option(norm, _NORMS[dim], f"NORM in {dim}D", ConfigError)
    if norm == "BN":
        return nn.BatchNorm2d(channels) if dim == 2 else nn.BatchNorm3d(channels)
    if norm == "GN":
        return nn.GroupNorm(math.gcd(32, channels), channels)
    from detectron2.layers import get_norm

    return get_norm(norm, channels)


def init_xavier(conv: nn.Module) -> None:
    """Initialise a convolution that no activation follows, as FPN does (fvcore's Xavier)."""
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def init_he(conv: nn.Module, slope: float = 0.0) -> None:
    """He initialisation by fan_in: the map keeps its variance (He et al. 2015, Eq. 10 and 15).

    By fan_out, as fvcore's ``c2_msra_fill``, each node that concatenates many maps into few
    channels would multiply it. ``slope`` is that of the activation at negative values.
    """
    nn.init.kaiming_normal_(conv.weight, a=slope, mode="fan_in", nonlinearity="leaky_relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def pad_or_cut(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bring (N, C, *sizes) to (N, C, *size) by zeros or cuts at the far ends.

    By a padding, negative where it cuts: a graph for all sizes cannot tell what a slice would do.
    """
    last_first = reversed(range(len(size)))
    return F.pad(x, [n for k in last_first for n in (0, size[k] - x.shape[2 + k])])


def round_up(size: Sequence[int], multiple: int) -> list[int]:
    """The least multiples that are no smaller, without ``-(-n // multiple)``: ONNX rounds quotients
    towards zero."""
    return [(n + multiple - 1) // multiple * multiple for n in size]


class MaxPoolToSize(nn.Module):
    """Max-pool by a factor, rounding up or down as the size of the result asks."""

    def forward(self, x: Tensor, size: list[int], factor: int) -> Tensor:
        """(N, C, *sizes) to (N, C, *size).

        Raises:
            SchemeError: ``size`` is not that of ``x`` over ``factor``.
        """
        rounds_up = list(size) != [n // factor for n in x.shape[2:]]
        if x.dim() == 4:
            pooled = F.max_pool2d(x, [factor, factor], ceil_mode=rounds_up)
        else:
            pooled = F.max_pool3d(x, [factor, factor, factor], ceil_mode=rounds_up)
        if list(pooled.shape[2:]) != list(size):
            raise SchemeError(
                f"a map of {list(size)} is not 1/{factor} of one of {list(x.shape[2:])}. "
                "The sizes of the encoder maps must follow their strides."
            )
        return pooled


def sum_of_convolutions(
    conv: nn.Conv2d | nn.Conv3d,
    maps: Sequence[Tensor],
    widths: Sequence[int],
    in_place: Sequence[bool],
) -> Tensor:
    """``conv`` of the concatenated maps, concatenating only those that are not ``in_place``.

    Args:
        conv: of stride 1.
        maps: (N, C_k, *sizes) each.
        widths: the C_k.
        in_place: of each map, whether it is convolved by itself.
    """
    groups = [[k] for k, alone in enumerate(in_place) if alone]
    if not all(in_place):
        groups.append([k for k, alone in enumerate(in_place) if not alone])
    parts = conv.weight.split(list(widths), dim=1)
    convolve = CONV_FUNCTION[len(conv.kernel_size)]
    terms = (
        convolve(
            _concatenate([maps[k] for k in group]),
            _concatenate([parts[k] for k in group]),
            conv.bias if group is groups[0] else None,
            padding=conv.padding,
        )
        for group in groups
    )
    return functools.reduce(torch.add, terms)


def _concatenate(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=1)


def convolve_upsampled(
    x: Tensor, weight: Tensor, bias: Tensor | None, size: list[int], mode: str
) -> Tensor:
    """``conv(interpolate(x, size))``, without upsampling where that saves multiply-adds.

    A tap of the kernel may mix the channels before the interpolation: at the few pixels of ``x``.
    What is left of the tap is its shift. With ``U`` the interpolation along an axis, ``S_a`` the
    shift by tap ``a`` and ``W_ab`` the kernel's tap, both axes are matrix products::

        y = sum_ab (S_a U) (W_ab x) (S_b U)^T

    Args:
        x: (N, C, *sizes), of 2 or 3 spatial dimensions.
        weight, bias: (K, C, 3, 3[, 3]), and (K,) or None; the padding is 1.
        mode: ``linear`` or ``nearest``.

    Returns:
        Tensor: (N, K, *size).
    """
    if torch.jit.is_scripting():  # of this "if" TorchScript compiles the one branch alone
        return _upsample_and_convolve(x, weight, bias, size, mode)
    else:
        dynamic = torch.compiler.is_exporting() or torch.jit.is_tracing()
        if dynamic or not _saves_multiply_adds(x, weight, size):
            return _upsample_and_convolve(x, weight, bias, size, mode)
        return _convolve_and_upsample(x, weight, bias, size, mode)


def _upsample_and_convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, size: list[int], mode: str
) -> Tensor:
    if x.dim() == 4:
        mode = "bilinear" if mode == "linear" else mode
        return F.conv2d(F.interpolate(x, size=size, mode=mode), weight, bias, padding=1)
    mode = "trilinear" if mode == "linear" else mode
    return F.conv3d(F.interpolate(x, size=size, mode=mode), weight, bias, padding=1)


def _convolve_and_upsample(
    x: Tensor, weight: Tensor, bias: Tensor | None, size: Sequence[int], mode: str
) -> Tensor:
    dim = len(size)
    taps = _convolve_taps(x, weight)
    *shifts, last = (
        _shifted_interpolation(x.shape[2 + axis], size[axis], mode, taps) for axis in range(dim)
    )
    taps = taps.reshape(-1, last.shape[1]) @ last.T
    for axis, shift in reversed(list(enumerate(shifts))):
        taps = taps.reshape(-1, shift.shape[1], math.prod(size[axis + 1 :]))
        taps = torch.bmm(shift.expand(len(taps), -1, -1), taps)
    y = taps.reshape(len(x), len(weight), *size)
    return y if bias is None else y + bias.to(y.dtype).view(-1, *[1] * dim)


def _saves_multiply_adds(x: Tensor, weight: Tensor, size: Sequence[int]) -> bool:
    """Whether the factored form takes less than half, for its are slower than a convolution's."""
    sizes, kernel = x.shape[2:], weight.shape[2:]
    direct = math.prod(kernel) * x.shape[1] * math.prod(size)
    factored = math.prod(kernel) * x.shape[1] * math.prod(sizes)
    for axis in range(len(size)):
        before = math.prod(kernel[:axis]) * math.prod(sizes[:axis])
        factored += before * kernel[axis] * sizes[axis] * math.prod(size[axis:])
    return 2 * factored < direct


def _convolve_taps(x: Tensor, weight: Tensor) -> Tensor:
    """Mix the channels by each tap: (N, K, a, height, b, width) from (N, C, height, width)."""
    dim = weight.dim() - 2
    by_tap = weight.movedim(1, -1).reshape(-1, weight.shape[1], *[1] * dim)
    taps = CONV_FUNCTION[dim](x, by_tap)
    taps = taps.reshape(len(x), len(weight), *weight.shape[2:], *x.shape[2:])
    order = [axis for i in range(dim) for axis in (2 + i, 2 + dim + i)]
    return taps.permute(0, 1, *order)


def _shifted_interpolation(size: int, new_size: int, mode: str, like: Tensor) -> Tensor:
    """The matrices ``S_a U`` of an axis beside each other: (new_size, 3 * size)."""
    precision = torch.promote_types(like.dtype, torch.float32)
    identity = torch.eye(size, dtype=precision, device=like.device)[None]
    matrix = F.interpolate(identity, size=new_size, mode=mode)[0].T
    padded = F.pad(matrix, (0, 0, 1, 1))
    shifted = torch.cat([padded[tap : tap + new_size] for tap in range(3)], dim=1)
    return shifted.to(like.dtype)


def recompute_in_backward(function: Callable, *inputs):
    """Run ``function(*inputs)`` and keep none of its maps: a backward pass runs it again.

    Batch statistics are counted once, not again in the second run.
    """

    if not torch.is_grad_enabled():
        return function(*inputs)

    def contexts():
        return contextlib.nullcontext(), _untracked_statistics()

    return checkpoint(function, *inputs, use_reentrant=False, context_fn=contexts)


@contextlib.contextmanager
def _untracked_statistics():
    """Batch norms that run in this context leave their running statistics as they are."""

    def stop(module, inputs):
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            momenta.setdefault(module, module.momentum)
            module.momentum = 0.0
            if module.num_batches_tracked is not None:
                module.num_batches_tracked.sub_(1)

    momenta: dict[nn.Module, float | None] = {}
    hook = nn.modules.module.register_module_forward_pre_hook(stop)
    try:
        yield
    finally:
        hook.remove()
        for module, momentum in momenta.items():
            module.momentum = momentum


class _CallTracer(fx.Tracer):
    """Trace a module's own lines; the modules that it calls stay calls."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def written_out(module: nn.Module) -> nn.Module:
    """A copy of ``module`` whose ``forward`` is the straight line of calls that it comes to.

    To be a class's ``__prepare_scriptable__``, which ``torch.jit.script`` asks for what to compile.
    The copy has the same parameters under the same names.
    """
    with torch.no_grad():  # recomputing in the backward pass cannot be scripted
        graph = _CallTracer().trace(module)
    forward = type(fx.GraphModule(module, graph)).forward
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    copied.__class__ = type(type(module).__name__, (type(module),), {"forward": forward})
    return copied
