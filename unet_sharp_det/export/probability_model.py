"""Semantic models as plain modules: pixel values, or patches of volumes, in; probabilities out."""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn

from ..modeling.layers import MaxPoolToSize, pad_or_cut, round_up
from ..modeling.segnetr_block import WindowWeights
from ..modeling.volume_segmentor import VolumeSegmentor
from .checks import blobs

LARGEST_BATCH, LARGEST_SIDE = 1024, 16384
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class ProbabilityModel(nn.Module):
    """What ``SemanticSegmentor`` with :class:`UNetSharpHead` computes, without dicts and lists;
    of a :class:`.WatershedSegmentor` the probabilities of its bands.

    Inside are the normalisation, the padding that timm's encoders need, the head, and the cut back
    to the image's size. What has a case for each size (poolings that round up, "same"
    convolutions) is replaced by what gives the same numbers without: one graph holds for all.
    """

    def __init__(self, model: nn.Module, precision: str = "fp32"):
        """
        Args:
            model: ``SemanticSegmentor`` with :class:`UNetSharpHead`; it is not changed.
            precision: of the layers, ``fp32`` or ``bf16``. Normalisation and result are float32.
        """
        super().__init__()
        self.dtype = PRECISIONS[precision]
        self.divisor = max(model.backbone.size_divisibility, 1)
        parts = nn.ModuleDict({"encoder": model.backbone, "head": model.sem_seg_head})
        self.has_windows = any(isinstance(module, WindowWeights) for module in parts.modules())
        # Not channels-last: torch.export would then ask how strides divide, which sizes decide.
        parts = copy.deepcopy(parts).eval().to(self.dtype)
        _replace_fixed_sizes(parts)
        self.encoder, self.head = parts["encoder"], parts["head"]
        self.register_buffer("mean", model.pixel_mean.detach().clone())
        self.register_buffer("std", model.pixel_std.detach().clone())
        self.eval().requires_grad_(False)

    @property
    def smallest_side(self) -> int:
        """Pixels that every exported graph takes: more than one on the coarsest map, or window.

        timm's encoders have maps of stride 32 even where no more than finer ones are used.
        """
        if self.divisor > 1:
            return 3 * max(self.divisor, 32) + 1
        # SegNetr's global windows have sides of 32 pixels at most.
        return 33 if self.has_windows else 2 ** (len(self.head.in_features) - 1) + 1

    @property
    def free_axes(self) -> dict[int, tuple[str, int, int]]:
        """Name, least and largest size of the axes of ``images`` that are free."""
        sides = (self.smallest_side, LARGEST_SIDE)
        return {0: ("batch", 1, LARGEST_BATCH), 2: ("height", *sides), 3: ("width", *sides)}

    def example(self, count: int) -> Tensor:
        """Return images, which are neither square nor of a multiple of a stride, so that nothing
        is equal by chance."""
        smallest = self.smallest_side
        sides = (3 * smallest + 7, 2 * smallest + 5)
        return torch.stack([blobs(len(self.mean), *sides, seed) for seed in range(count)])

    def forward(self, images: Tensor) -> Tensor:
        """
        Args:
            images: (N, channels, H, W), values 0..255, in the order of ``INPUT.FORMAT``.

        Returns:
            Tensor: float32 probabilities (N, classes, H, W).
        """
        size = images.shape[2:]
        x = (images - self.mean) / self.std
        if self.divisor > 1:
            x = pad_or_cut(x, round_up(size, self.divisor))
        features = self.encoder(x.to(self.dtype))
        result = self.head.probabilities([features[name] for name in self.head.in_features])
        if self.divisor > 1:
            result = pad_or_cut(result, size)
        return result.float()


class PatchModel(nn.Module):
    """What :class:`VolumeSegmentor` computes of any number of windows of its ``patch_size``."""

    has_windows = False
    free_axes = {0: ("batch", 1, LARGEST_BATCH)}

    def __init__(self, model: VolumeSegmentor):
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    def example(self, count: int) -> Tensor:
        """Return patches of noise."""
        random = torch.Generator().manual_seed(count)
        sides = (len(self.model.pixel_mean), *self.model.patch_size)
        return torch.randn(count, *sides, generator=random)

    def forward(self, patches: Tensor) -> Tensor:
        """
        Args:
            patches: (N, channels, D, H, W) as :class:`.VolumeMapper` gives them.

        Returns:
            Tensor: float32 probabilities (N, classes, D, H, W).
        """
        return self.model.probabilities(patches)


def pool_to_size(x: Tensor, factor: int, size: Sequence[int]) -> Tensor:
    """Max-pool (N, C, H, W) in blocks of ``factor`` to ``size``, rounded up or down.

    A block that the image does not fill has the maximum of what there is; rows beyond the last
    block are left out.
    """
    pads = [n for s, t in zip(x.shape[:1:-1], size[::-1], strict=True) for n in (0, t * factor - s)]
    return F.max_pool2d(F.pad(x, pads, value=-torch.inf), factor)


class _PoolToSize(nn.Module):
    """``MaxPoolToSize``."""

    def forward(self, x: Tensor, size: Sequence[int], factor: int) -> Tensor:
        return pool_to_size(x, factor, size)


class _PoolUp(nn.Module):
    """``MaxPool2d(2, ceil_mode=True)``."""

    def forward(self, x: Tensor) -> Tensor:
        return pool_to_size(x, 2, [(n + 1) // 2 for n in x.shape[2:]])


class _SameConv(nn.Module):
    """``Conv2dSame`` whose kernel is no smaller than its stride, so that it never pads below 0."""

    def __init__(self, conv: nn.Conv2d, reach: list[int]):
        super().__init__()
        self.conv = conv
        self.reach = reach

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size, stride, reach in zip(x.shape[2:], self.conv.stride, self.reach, strict=True):
            total = round_up([size], stride)[0] - size + reach - stride
            pads = [total // 2, total - total // 2, *pads]
        return self.conv._conv_forward(F.pad(x, pads), self.conv.weight, self.conv.bias)


def _replacement(module: nn.Module) -> nn.Module | None:
    if isinstance(module, nn.MaxPool2d) and module.ceil_mode and module.kernel_size == 2:
        return _PoolUp()
    if isinstance(module, MaxPoolToSize):
        return _PoolToSize()
    if isinstance(module, Conv2dSame):
        sides = zip(module.kernel_size, module.dilation, strict=True)
        reach = [(kernel - 1) * dilation + 1 for kernel, dilation in sides]
        if all(r >= s for r, s in zip(reach, module.stride, strict=True)):
            return _SameConv(module, reach)
    return None


def _replace_fixed_sizes(module: nn.Module) -> None:
    """Replace, in place, what chooses its way by the size of the image."""
    for name, child in module.named_children():
        replacement = _replacement(child)
        if replacement is None:
            _replace_fixed_sizes(child)
        else:
            setattr(module, name, replacement)
