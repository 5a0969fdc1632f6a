"""The three schemes written out by hand for four levels, as their papers draw them.

Each function takes the four encoder maps and the state dict of a :class:`SkipGrid` and computes
with plain functional calls, so that it shares nothing with the interpreter but the weights.
"""

import torch
import torch.nn.functional as F


class Weights:
    def __init__(self, state_dict, edge_order):
        self.state = state_dict
        self.conv_first = edge_order == "conv_up"

    def f(self, key, x):
        return F.relu(
            F.conv2d(x, self.state[f"{key}.0.weight"], self.state[f"{key}.0.bias"], padding=1)
        )

    def node(self, name, *maps):
        return self.f(f"nodes.{name}.0", torch.cat(maps, 1))

    def up_edge(self, name, x, like):
        if self.conv_first:
            return up(self.f(f"edges.{name}", x), like)
        return self.f(f"edges.{name}", up(x, like))

    def down_edge(self, name, x, factor):
        return self.f(f"edges.{name}", F.max_pool2d(x, factor, ceil_mode=True))

    def same_edge(self, name, x):
        return self.f(f"edges.{name}", x)


def up(x, like):
    return F.interpolate(x, size=like.shape[2:], mode="bilinear")


def unetpp(features, w):
    x00, x10, x20, x30 = features
    x01 = w.node("0_1", x00, up(x10, x00))
    x11 = w.node("1_1", x10, up(x20, x10))
    x21 = w.node("2_1", x20, up(x30, x20))
    x02 = w.node("0_2", x00, x01, up(x11, x00))
    x12 = w.node("1_2", x10, x11, up(x21, x10))
    x03 = w.node("0_3", x00, x01, x02, up(x12, x00))
    return [x03, x12, x21, x30]


def unetsharp(features, w):
    x00, x10, x20, x30 = features
    x01 = w.node("0_1", x00, up(x10, x00))
    x11 = w.node("1_1", x10, up(x20, x10))
    x21 = w.node("2_1", x20, up(x30, x20))
    x02 = w.node("0_2", x00, x01, up(x11, x00), w.up_edge("2_0_to_0_2", x20, x00))
    x12 = w.node("1_2", x10, x11, up(x21, x10), w.up_edge("3_0_to_1_2", x30, x10))
    x03 = w.node(
        "0_3",
        *(x00, x01, x02, up(x12, x00)),
        w.up_edge("3_0_to_0_3", x30, x00),
        w.up_edge("2_1_to_0_3", x21, x00),
    )
    return [x03, x12, x21, x30]


def unet3p(features, w):
    e0, e1, e2, e3 = features
    d2 = w.node(
        "2_1",
        w.down_edge("0_0_to_2_1", e0, 4),
        w.down_edge("1_0_to_2_1", e1, 2),
        w.same_edge("2_0_to_2_1", e2),
        w.up_edge("3_0_to_2_1", e3, e2),
    )
    d1 = w.node(
        "1_2",
        w.down_edge("0_0_to_1_2", e0, 2),
        w.same_edge("1_0_to_1_2", e1),
        w.up_edge("2_1_to_1_2", d2, e1),
        w.up_edge("3_0_to_1_2", e3, e1),
    )
    d0 = w.node(
        "0_3",
        w.same_edge("0_0_to_0_3", e0),
        w.up_edge("1_2_to_0_3", d1, e0),
        w.up_edge("2_1_to_0_3", d2, e0),
        w.up_edge("3_0_to_0_3", e3, e0),
    )
    return [d0, d1, d2, e3]


ORACLES = {"unetpp": unetpp, "unet3p": unet3p, "unetsharp": unetsharp}
