"""What SegNetr is made of: patch merging, MBConv, and the block of local and global interaction."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.efficientnet import MBConv, MBConvConfig
from torchvision.models.swin_transformer import PatchMerging
from torchvision.ops import Conv2dNormActivation

from .layers import build_norm, pad_or_cut, round_up


def window_side(level: int) -> int:
    """Cells along the local windows of a map of stride 2^``level``: 8, 8, 4, 2, 1, 1."""
    return max(1, min(8, 16 >> level))


def mbconv(channels: int, norm: str, out_channels: int | None = None) -> nn.Module:
    """MBConv: 1x1 to 6 times the channels (of a block with other ``out_channels``: as many),
    depth-wise 3x3, squeeze-and-excitation to ``channels // 4``, 1x1; with a residual sum where
    the widths are equal (Tan and Le 2019). ``channels`` are a multiple of 8."""
    norm_layer = functools.partial(build_norm, norm) if norm else None
    expansion = 6 if out_channels is None else 1
    config = MBConvConfig(expansion, 3, 1, channels, out_channels or channels, 1)
    block = MBConv(config, 0.0, norm_layer)
    if expansion > 1:
        return block
    expand = Conv2dNormActivation(
        channels, channels, 1, norm_layer=norm_layer, activation_layer=nn.SiLU
    )
    return nn.Sequential(expand, block)


def displace(x: Tensor, side: int) -> Tensor:
    """Swap tiles of ``side`` x ``side`` cells so that windows of two tiles span far ones.

    Along either axis the tiles 1, 3, ... go one tile back and the tiles 2, 4, ... one on, the first
    and the last change places. It is its own inverse.

    Args:
        x: (N, C, H, W), an even number of tiles high and wide.
    """
    for axis in (2, 3):
        pairs = x.roll(-side, axis).unflatten(axis, (-1, 2, side))
        x = pairs.flip(axis + 1).flatten(axis, axis + 2).roll(side, axis)
    return x


class PatchMerge(nn.Module):
    """``Linear(LN(fold(X)))``: (N, C, H, W) to (N, 2C, ceil(H / 2), ceil(W / 2)).

    The positions are the outer index of the 4C channels, in the order of Swin's patch merging.
    An odd side is filled up by zeros.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.merging = PatchMerging(channels)

    def forward(self, x: Tensor) -> Tensor:
        return _on_channels_last(self.merging, pad_or_cut(x, round_up(x.shape[2:], 2)))


class WindowWeights(nn.Module):
    """Weights of the cells of a map: of each window ``softmax(FFN(its cells))``.

    The windows are of the map, or of the map displaced (:func:`displace`): then the weights are
    displaced back. As weights multiply cell by cell, the map of one channel that they are computed
    of is all that has to move. The cost is ``4 side^2`` multiply-adds a cell: linear in the pixels.

    A map that its windows do not fit is filled up; what is filled in has no part in the softmax.
    """

    def __init__(self, side: int, is_global: bool = False):
        """``side`` in cells; ``is_global``: the map is displaced by tiles of half of it."""
        super().__init__()
        self.side = side
        self.is_global = is_global
        cells = side**2
        self.ffn = nn.Sequential(nn.Conv2d(cells, cells, 1), nn.GELU(), nn.Conv2d(cells, cells, 1))

    def forward(self, means: Tensor) -> Tensor:
        """Means over the channels (N, 1, H, W) to weights of that shape."""
        valid = self._windows(torch.ones_like(means[:1]))
        logits = self.ffn(self._windows(means)).masked_fill(valid == 0, -torch.inf)
        weights = F.pixel_shuffle(logits.softmax(1), self.side)
        if self.is_global:
            weights = displace(weights, self.side // 2)
        return pad_or_cut(weights, means.shape[2:])

    def _windows(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) to (N, side^2, windows down, windows across)."""
        x = pad_or_cut(x, round_up(x.shape[2:], self.side))
        return F.pixel_unshuffle(displace(x, self.side // 2) if self.is_global else x, self.side)


class SegNetrBlock(nn.Module):
    """``x = MBConv(x)``, ``n = LN(x)``, ``y = x + n (w_0 local + w_1 global)``, ``y + FFN(LN(y))``.

    ``local`` and ``global`` are :class:`WindowWeights` of x's mean over the channels, on windows of
    :func:`window_side` P and 2P; w_0 and w_1 are learned. A window of one cell has one weight,
    1, whatever the FFN says: there the local part is left out.
    """

    def __init__(self, channels: int, level: int, norm: str = "BN"):
        """For maps (N, ``channels``, H, W) of stride 2^``level``; ``norm`` is MBConv's."""
        super().__init__()
        side = window_side(level)
        self.mbconv = mbconv(channels, norm)
        self.norm = nn.LayerNorm(channels)
        parts = [WindowWeights(2 * side, is_global=True)]
        self.parts = nn.ModuleList(parts if side == 1 else [WindowWeights(side), *parts])
        self.factors = nn.Parameter(torch.full((len(self.parts),), 0.5))
        self.ffn = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.mbconv(x)
        # Of x, for LN(x) has a mean of 0 as long as its scale and shift are untrained.
        means = x.mean(1, keepdim=True)
        weights = sum(f * part(means) for f, part in zip(self.factors, self.parts, strict=True))
        x = x + weights * _on_channels_last(self.norm, x)
        return x + _on_channels_last(self.ffn, x)


def _on_channels_last(module: nn.Module, x: Tensor) -> Tensor:
    return module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
