"""UNet# as the paper's Eq. 1 reads, node by node: the oracle of values, and the yardstick of speed.

It takes a network's weights and shares nothing else with the interpreter: every map is upsampled
at full width, then convolved, and all inputs of a node are concatenated.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unet_sharp_det.modeling import SkipUNet


class LiteralUNetSharp(nn.Module):
    """The five-level UNet# without deep supervision: images (N, 3, H, W) to logits (N, C, H, W)."""

    def __init__(self, net: SkipUNet):
        super().__init__()
        self.stages = net.backbone.stages
        self.nodes = net.sem_seg_head.decoder.grid.nodes
        self.edges = net.sem_seg_head.decoder.grid.edges
        self.head = net.sem_seg_head.decoder.heads["0_4"]

    def forward(self, images: Tensor) -> Tensor:
        x00 = self.stages[0](images)
        x10 = self.stages[1](x00)
        x20 = self.stages[2](x10)
        x30 = self.stages[3](x20)
        x40 = self.stages[4](x30)

        x01 = self.h("0_1", x00, up(x10, x00))
        x11 = self.h("1_1", x10, up(x20, x10))
        x21 = self.h("2_1", x20, up(x30, x20))
        x31 = self.h("3_1", x30, up(x40, x30))

        x02 = self.h("0_2", x00, x01, up(x11, x00), self.f("2_0", x20, x00))
        x12 = self.h("1_2", x10, x11, up(x21, x10), self.f("3_0", x30, x10))
        x22 = self.h("2_2", x20, x21, up(x31, x20), self.f("4_0", x40, x20))

        long = self.f("3_0", x30, x00), self.f("2_1", x21, x00)
        x03 = self.h("0_3", x00, x01, x02, up(x12, x00), *long)
        long = self.f("4_0", x40, x10), self.f("3_1", x31, x10)
        x13 = self.h("1_3", x10, x11, x12, up(x22, x10), *long)

        long = self.f("4_0", x40, x00), self.f("3_1", x31, x00), self.f("2_2", x22, x00)
        x04 = self.h("0_4", x00, x01, x02, x03, up(x13, x00), *long)
        return self.head(x04)

    def h(self, node: str, *maps: Tensor) -> Tensor:
        return self.nodes[node](torch.cat(maps, dim=1))

    def f(self, source: str, x: Tensor, like: Tensor) -> Tensor:
        return self.edges[source](up(x, like))


def up(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear")
