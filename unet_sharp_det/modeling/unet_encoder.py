"""The encoders of the papers' U-Nets: the maps X[i,0] at strides 1, 2, 4, ..."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from ..errors import ConfigError, UserError
from .layers import build_norm, conv_block, init_he

UNET_CHANNELS = (32, 64, 128, 256, 512)
VNET_CHANNELS = (16, 32, 64, 128, 256)
VNET_CONVS = (1, 1, 2, 3, 2)
PRELU_SLOPE = 0.25


class MapShape(NamedTuple):
    """What detectron2's ``ShapeSpec`` says of a map: its channels, and image pixels per pixel."""

    channels: int
    stride: int


class _StagedEncoder(nn.Module):
    """Stages in a row, each of half the size, with the methods of a detectron2 ``Backbone``."""

    size_divisibility = 0
    padding_constraints: dict[str, int] = {}

    def __init__(self, stages: Sequence[nn.Module], channels: Sequence[int]):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self._shapes = {
            f"res{level}": MapShape(channels=width, stride=2**level)
            for level, width in enumerate(channels)
        }

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (N, C, H, W), or volumes (N, C, D, H, W), to "res<i>" -> the map of level i."""
        maps = {}
        for name, stage in zip(self._shapes, self.stages, strict=True):
            x = maps[name] = stage(x)
        return maps

    def output_shape(self) -> dict[str, MapShape]:
        return dict(self._shapes)


class UNetEncoder(_StagedEncoder):
    """``X[0,0] = f2(image)``, ``X[i,0] = f2(maxpool(X[i-1,0]))``, f2 being ``f`` twice.

    UNet#, Fig. 1. Level i has the size ceil(H / 2^i), so that images of any size pass.
    """

    def __init__(
        self, in_channels: int = 3, channels: Sequence[int] = UNET_CHANNELS, norm: str = "BN"
    ):
        """``channels`` are of the levels, finest first; ``norm`` is as in :func:`conv_block`."""
        stages = []
        for level, width in enumerate(channels):
            before = channels[level - 1] if level else in_channels
            pool = [nn.MaxPool2d(2, ceil_mode=True)] if level else []
            blocks = [conv_block(n, width, norm=norm, bias=True) for n in (before, width)]
            stages.append(nn.Sequential(*pool, *blocks))
        super().__init__(stages, channels)


class VNetEncoder(_StagedEncoder):
    """V-Net's encoder for volumes: 5x5x5 convolutions, 2x2x2 convolutions of stride 2 in between;
    :data:`VNET_CONVS` of the former at each level.

    Each convolution is followed by a norm and a PReLU per channel (Milletari et al. 2016,
    Fig. 2, without its residual sums; the widths of UNet#, Table 1). Level i has the size
    floor(D / 2^i), so that volumes of any size pass whose last level is left a voxel.
    """

    dim = 3

    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = VNET_CHANNELS,
        norm: str = "BN",
    ):
        """
        Args:
            in_channels: of the volumes, whose sides must be 2^(levels - 1) or more.
            channels: of the levels, finest first.
            norm: as in :func:`conv_block`.

        Raises:
            ConfigError: there are more levels than V-Net has.
        """
        if len(channels) > len(VNET_CONVS):
            raise ConfigError(
                f"channels has {len(channels)} levels, V-Net {len(VNET_CONVS)}. Give fewer."
            )
        stages = []
        for level, (width, count) in enumerate(zip(channels, VNET_CONVS, strict=False)):
            before = channels[level - 1] if level else in_channels
            blocks = [_vnet_block(before, width, norm, kernel_size=2, stride=2)] if level else []
            first = width if level else in_channels
            widths = [first] + [width] * (count - 1)
            blocks += [_vnet_block(n, width, norm, kernel_size=5, padding=2) for n in widths]
            stages.append(nn.Sequential(*blocks))
        super().__init__(stages, channels)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        least = 2 ** (len(self.stages) - 1)
        if min(x.shape[2:]) < least:
            raise UserError(
                f"a volume of {tuple(x.shape[2:])} voxels is too small: {len(self.stages)} levels "
                f"need {least} on every side. Pad it, or give fewer channels."
            )
        return super().forward(x)


def _vnet_block(in_channels: int, out_channels: int, norm: str, **options) -> nn.Sequential:
    conv = nn.Conv3d(in_channels, out_channels, **options)
    init_he(conv, slope=PRELU_SLOPE)
    layers = [conv, build_norm(norm, out_channels, dim=3)]
    layers.append(nn.PReLU(out_channels, init=PRELU_SLOPE))
    return nn.Sequential(*(layer for layer in layers if layer is not None))
