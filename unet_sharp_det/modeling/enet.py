"""ENet, which no maintained library has."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ENet(nn.Module):
    """ENet: bottlenecks of few channels at 1/8 of the size (Paszke et al. 2016, Table 1, Fig. 2).

    Projections have no bias, and a bottleneck works on a fourth of its output's channels. The
    decoder unpools at the places of the encoder's maxima. With 20 classes it has 0.365 M parameters
    (the paper: 0.37 M, Table 2).

    Example::

        >>> import torch
        >>> from unet_sharp_det.modeling.enet import ENet
        >>> tuple(ENet(num_classes=2)(torch.zeros(2, 3, 64, 48)).shape)
        (2, 2, 64, 48)
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 1):
        """``in_channels`` of the images, whose sides are multiples of 8; ``num_classes`` logits."""
        super().__init__()
        self.initial = nn.Conv2d(in_channels, 16 - in_channels, 3, stride=2, padding=1)
        self.initial_norm = _norm_act(16)
        self.down1 = Downsampling(16, 64, dropout=0.01)
        self.stage1 = nn.Sequential(*(Bottleneck(64, dropout=0.01) for _ in range(4)))
        self.down2 = Downsampling(64, 128)
        self.stages2_and_3 = nn.Sequential(*_stage(128), *_stage(128))
        self.up4 = Upsampling(128, 64)
        self.stage4 = nn.Sequential(Bottleneck(64), Bottleneck(64))
        self.up5 = Upsampling(64, 16)
        self.stage5 = Bottleneck(16)
        self.classifier = nn.ConvTranspose2d(16, num_classes, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, in_channels, H, W) to logits (N, num_classes, H, W)."""
        x = self.initial_norm(torch.cat([self.initial(x), F.max_pool2d(x, 2)], dim=1))
        x, places1 = self.down1(x)
        x, places2 = self.down2(self.stage1(x))
        x = self.stage4(self.up4(self.stages2_and_3(x), places2))
        return self.classifier(self.stage5(self.up5(x, places1)))


class Bottleneck(nn.Module):
    """``PReLU(x + dropout(expand(convolve(reduce(x)))))``."""

    def __init__(
        self, channels: int, *, dilation: int = 1, asymmetric: bool = False, dropout: float = 0.1
    ):
        """``dilation`` of the 3x3 convolution, or ``asymmetric`` 5x1 and 1x5 in its place."""
        super().__init__()
        inner = channels // 4
        if asymmetric:
            conv = nn.Sequential(
                nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False),
                nn.Conv2d(inner, inner, (1, 5), padding=(0, 2)),
            )
        else:
            conv = nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation)
        reduce = nn.Conv2d(channels, inner, 1, bias=False)
        self.branch = _branch(reduce, conv, channels, dropout)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.branch(x))


class Downsampling(nn.Module):
    """A bottleneck of half the size, beside a max-pooling that is padded by channels of 0."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.1):
        super().__init__()
        inner = out_channels // 4
        reduce = nn.Conv2d(in_channels, inner, 2, stride=2, bias=False)
        conv = nn.Conv2d(inner, inner, 3, padding=1)
        self.branch = _branch(reduce, conv, out_channels, dropout)
        self.act = nn.PReLU(out_channels)
        self.added_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The map of half the size, and where its maxima were."""
        pooled, places = F.max_pool2d(x, 2, return_indices=True)
        padded = F.pad(pooled, (0, 0, 0, 0, 0, self.added_channels))
        return self.act(padded + self.branch(x)), places


class Upsampling(nn.Module):
    """A bottleneck of twice the size, beside an unpooling of a 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.1):
        super().__init__()
        inner = out_channels // 4
        reduce = nn.Conv2d(in_channels, inner, 1, bias=False)
        conv = nn.ConvTranspose2d(inner, inner, 3, stride=2, padding=1, output_padding=1)
        self.branch = _branch(reduce, conv, out_channels, dropout)
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        )
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """``places`` of the maxima, of :class:`Downsampling`."""
        return self.act(F.max_unpool2d(self.shortcut(x), places, 2) + self.branch(x))


def _branch(reduce: nn.Module, conv: nn.Module, out_channels: int, dropout: float) -> nn.Sequential:
    inner = out_channels // 4
    return nn.Sequential(
        *(reduce, _norm_act(inner), conv, _norm_act(inner)),
        *(nn.Conv2d(inner, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)),
        nn.Dropout2d(dropout),
    )


def _norm_act(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))


def _stage(channels: int) -> list[Bottleneck]:
    """Bottlenecks 2.1 to 2.8."""
    return [
        *(Bottleneck(channels), Bottleneck(channels, dilation=2)),
        *(Bottleneck(channels, asymmetric=True), Bottleneck(channels, dilation=4)),
        *(Bottleneck(channels), Bottleneck(channels, dilation=8)),
        *(Bottleneck(channels, asymmetric=True), Bottleneck(channels, dilation=16)),
    ]
