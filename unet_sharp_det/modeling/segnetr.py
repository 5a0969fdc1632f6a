"""SegNetr (Cheng et al., MICCAI 2023): its encoder, its decoder, and both as a plain module.

The authors published no code. This is a reconstruction, which has their numbers of parameters and
multiply-adds within 4 % (docs/CHOICES.md).
"""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from ..errors import ConfigError, look_up_option
from ..skip_schemes import Node, build_table
from .irsc import patch_reverse, retain_half
from .layers import build_norm, init_xavier, recompute_in_backward
from .segmentation_head import EncoderDecoder
from .segnetr_block import PatchMerge, SegNetrBlock, mbconv
from .semantic_labels import SemanticLabels
from .skip_decoder import BranchDecoder, branch_nodes
from .unet_encoder import MapShape

TAPS = ("folded", "merged")
#: What SegNetr's decoder takes.
SKIPS = ("skip0", "skip1", "skip2", "skip3", "res4")


class SegNetrEncoder(nn.Module):
    """``stem`` of C/2 channels at stride 1, ``res1`` .. ``res5`` of C, 2C, ... at strides 2, 4, ...

    A level is patch merging and a :class:`SegNetrBlock`. ``skip<i>`` is what IRSC
    (:mod:`.irsc`) carries of level i, whose size it has: of half its channels.
    SegNetr itself has four levels; ``res5`` is for necks, which end at stride 32.

    Images of any size pass; level i has the size ceil(H / 2^i).
    """

    size_divisibility = 0
    padding_constraints: dict[str, int] = {}

    def __init__(
        self,
        in_channels: int = 3,
        channels: int = 64,
        norm: str = "BN",
        *,
        tap: str = "merged",
        out_features: Sequence[str] = SKIPS,
    ):
        """
        Args:
            in_channels: of the images.
            channels: C, a multiple of 16. SegNetr has 64, SegNetr-S 32.
            norm: of the MBConv blocks, as in :func:`.layers.conv_block`.
            tap: ``folded`` or ``merged``: what the skips carry (:mod:`.irsc`).
            out_features: names of the maps to return; levels beyond them are not built. A skip
                needs a ``res`` of a deeper level.

        Raises:
            ConfigError: the width cannot be built, a name is unknown, or a skip has no level below.
        """
        super().__init__()
        if channels < 16 or channels % 16:
            raise ConfigError(
                f"MODEL.SEGNETR.CHANNELS is {channels}. Give a multiple of 16, as 32 or 64."
            )
        look_up_option(tap, TAPS, "MODEL.SEGNETR.TAP", ConfigError)
        widths = [channels // 2 * 2**level for level in range(6)]
        maps = {
            "stem": MapShape(widths[0], 1),
            **{f"res{i}": MapShape(widths[i], 2**i) for i in range(1, 6)},
            **{f"skip{i}": MapShape(widths[i] // 2, 2**i) for i in range(4)},
        }
        for name in out_features:
            look_up_option(name, maps, "MODEL.SEGNETR.OUT_FEATURES", ConfigError)
        self._shapes = {name: maps[name] for name in out_features}
        depth = max(shape.stride for shape in self._shapes.values()).bit_length()
        if (last := f"skip{depth - 1}") in self._shapes:
            raise ConfigError(
                f"MODEL.SEGNETR.OUT_FEATURES: {last} is what is carried on the way to res{depth}. "
                f"Add res{depth} or a deeper one."
            )
        self.is_merged = tap == "merged"
        norm_layer = functools.partial(build_norm, norm) if norm else None
        stem = Conv2dNormActivation(
            in_channels, widths[0], norm_layer=norm_layer, activation_layer=None
        )
        self.stem = nn.Sequential(stem, mbconv(widths[0], norm))
        self.merges = nn.ModuleList(PatchMerge(widths[i]) for i in range(depth - 1))
        self.blocks = nn.ModuleList(SegNetrBlock(widths[i], i, norm) for i in range(1, depth))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (N, in_channels, H, W) to name -> (N, C, H / stride, W / stride)."""
        x = self.stem(x)
        maps = {"stem": x}
        for level, (merge, block) in enumerate(zip(self.merges, self.blocks, strict=True)):
            merged = merge(x)
            if f"skip{level}" in self._shapes:
                skip = patch_reverse(merged, x.shape[2:]) if self.is_merged else retain_half(x)
                maps[f"skip{level}"] = skip
            x = maps[f"res{level + 1}"] = block(merged)
        return {name: maps[name] for name in self._shapes}

    def output_shape(self) -> dict[str, MapShape]:
        return dict(self._shapes)


class SegNetrGrid(nn.Module):
    """The nodes of SegNetr's decoder: UNet's, X[i,D-i], of :class:`SegNetrBlock`.

    ``X[i,D-i] = block( cat( skip_i, U(conv1x1(X[i+1,D-i-1])) ) )``, where U doubles the size
    bilinearly, and the convolution has as many channels as the skip. Below the last one is an
    MBConv of the coarsest map, to twice its channels.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        outputs: Sequence[Node],
        norm: str = "BN",
        checkpoint: bool = False,
    ):
        """
        Args:
            in_channels: of the skips of the levels 0, 1, ..., multiples of 4, and of the last map.
            outputs: the nodes that :meth:`forward` returns.
            norm: of the MBConv blocks.
            checkpoint: see :class:`.GridOptions`.
        """
        super().__init__()
        *skips, coarsest = in_channels
        self.outputs = list(outputs)
        self.checkpoint = checkpoint
        self.bottleneck = mbconv(coarsest, norm, 2 * coarsest)
        widths = [*(2 * width for width in skips), 2 * coarsest]
        self.convs = nn.ModuleList(
            nn.Conv2d(below, width, 1) for below, width in zip(widths[1:], skips, strict=True)
        )
        for conv in self.convs:
            init_xavier(conv)
        self.blocks = nn.ModuleList(
            SegNetrBlock(width, level, norm) for level, width in enumerate(widths[:-1])
        )
        self.out_channels = [(*widths[:-1], coarsest)[level] for level, _ in self.outputs]

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The maps of :attr:`outputs` of skips and coarsest map, finest first."""
        *skips, coarsest = features
        nodes = {(len(skips), 0): coarsest}
        x = self.bottleneck(coarsest)
        for level, skip in reversed(list(enumerate(skips))):
            run = functools.partial(self._node, level)
            x = recompute_in_backward(run, skip, x) if self.checkpoint else run(skip, x)
            nodes[level, len(skips) - level] = x
        return [nodes[node] for node in self.outputs]

    def _node(self, level: int, skip: Tensor, below: Tensor) -> Tensor:
        up = F.interpolate(self.convs[level](below), size=skip.shape[2:], mode="bilinear")
        return self.blocks[level](torch.cat([skip, up], dim=1))


class SegNetrDecoder(BranchDecoder):
    """A :class:`SegNetrGrid` with branches as :class:`.SkipDecoder` has them for UNet."""

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int = 1,
        *,
        norm: str = "BN",
        checkpoint: bool = False,
        deep_supervision: str = "none",
        cgm: bool = False,
        cgm_dropout: float = 0.5,
    ):
        """
        Args:
            in_channels, norm, checkpoint: see :class:`SegNetrGrid`.
            num_classes, deep_supervision, cgm, cgm_dropout: see :class:`.SkipDecoder`.

        Raises:
            ConfigError: ``deep_supervision`` is unknown.
        """
        depth = len(in_channels)
        outputs = branch_nodes(build_table("fpn", depth), depth, deep_supervision)
        grid = SegNetrGrid(in_channels, outputs, norm, checkpoint)
        super().__init__(grid, num_classes, cgm=cgm, cgm_dropout=cgm_dropout)


class SegNetr(EncoderDecoder):
    """SegNetr (C = 64) or SegNetr-S (C = 32): encoder, decoder, loss and inference.

    Example::

        >>> import torch
        >>> from unet_sharp_det import SegNetr
        >>> net = SegNetr(num_classes=2, channels=16)
        >>> losses = net(torch.zeros(2, 3, 32, 32), torch.ones(2, 32, 32, dtype=torch.long))
        >>> sorted(losses)
        ['loss_sem_seg_dice', 'loss_sem_seg_focal', 'loss_sem_seg_lovasz']
        >>> tuple(net.eval()(torch.zeros(1, 3, 37, 50)).shape)
        (1, 2, 37, 50)
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        channels: int = 64,
        norm: str = "BN",
        tap: str = "merged",
        labels: SemanticLabels | None = None,
        inference: str = "accurate",
        loss: nn.Module | None = None,
        **options,
    ):
        """
        Args:
            in_channels, channels, norm, tap: see :class:`SegNetrEncoder`.
            num_classes: channels of the output, each a yes-or-no map.
            labels: what the channels mean, in the place of ``num_classes``.
            inference, loss: see :class:`.EncoderDecoder`.
            options: more of :class:`SegNetrDecoder`.

        Raises:
            ConfigError: an option is unknown or contradicts another.
        """
        labels = labels or SemanticLabels(num_classes)
        backbone = SegNetrEncoder(in_channels, channels, norm, tap=tap)
        widths = [shape.channels for shape in backbone.output_shape().values()]
        decoder = SegNetrDecoder(widths, labels.num_classes, norm=norm, **options)
        super().__init__(backbone, decoder, labels=labels, loss=loss, inference=inference)
