"""The interpreter of skip tables: one module that runs any scheme, in 2D or 3D."""

import functools
import itertools
from collections.abc import Sequence

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.layers import get_norm
from torch import Tensor, nn

from ..errors import ConfigError, SchemeError, look_up_option
from ..skip_schemes import Edge, Node, Table, output_nodes, validate_table

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_CONV_FUNCTION = {2: F.conv2d, 3: F.conv3d}
_MAX_POOL = {2: F.max_pool2d, 3: F.max_pool3d}
_INTERPOLATION = {
    "linear": {2: "bilinear", 3: "trilinear"},
    "nearest": {2: "nearest", 3: "nearest"},
}


class SkipGrid(nn.Module):
    """Run a skip table: ``X[i,j] = H( fuse( carry(edge) for its edges ) )``.

    ``carry`` brings a map to the level of the node: interpolation to that level's size from
    coarser levels, max-pooling (2x2 per level) from finer ones, and a convolution ``f`` where
    the table asks for it. ``f`` is 3x3 convolution, norm, ReLU; ``H`` is ``f`` repeated
    ``node_convs`` times.

    What the options leave open, the table decides; nothing here knows a scheme's name.

    A convolution over concatenated maps is the sum of convolutions over each. So a map of the
    node's own level that no ``f`` changes, as UNet++ and UNet# take in many, is convolved where it
    is and never copied into a concatenation, which training would have to keep.
    """

    def __init__(
        self,
        table: Table,
        in_channels: Sequence[int],
        node_channels: int | Sequence[int],
        *,
        edge_channels: int = 64,
        edge: str = "f",
        edge_order: str = "conv_up",
        fuse: str = "cat",
        node_convs: int = 1,
        norm="",
        interpolation: str = "linear",
        dim: int = 2,
        outputs: Sequence[Node] | None = None,
    ):
        """
        Args:
            table: see :mod:`unet_sharp_det.skip_schemes`.
            in_channels: channels of the encoder maps X[0,0], X[1,0], ...; one per level.
            node_channels: channels of the nodes right of the encoder; one number, or one per level.
            edge_channels: channels that a convolved edge carries.
            edge: ``f`` convolves the edges that the table marks, ``raw`` leaves them as they are.
            edge_order: for convolved edges from coarser levels, ``conv_up`` convolves at the
                source's resolution and upsamples then (factor**dim fewer multiply-adds),
                ``up_conv`` upsamples first, as the equations read.
            fuse: ``cat`` concatenates the inputs; ``sum`` and ``avg`` add them, which needs all
                inputs of a node equally wide.
            node_convs: number of ``f`` in a node. 0: the fused map is the node.
            norm: a name or factory that :func:`detectron2.layers.get_norm` understands; "" for
                none. A convolution has a bias exactly if it has no norm.
            interpolation: ``linear`` (bi-, trilinear; corners not aligned) or ``nearest``.
            dim: 2 or 3 spatial dimensions.
            outputs: the nodes that :meth:`forward` returns; the last of each level by default.
        """
        super().__init__()
        look_up_option(edge, ("f", "raw"), "edge", ConfigError)
        look_up_option(edge_order, ("conv_up", "up_conv"), "MODEL.FPN.EDGE_ORDER", ConfigError)
        look_up_option(fuse, ("cat", "sum", "avg"), "fuse", ConfigError)
        look_up_option(interpolation, _INTERPOLATION, "interpolation", ConfigError)
        depth = len(in_channels)
        self.table = table
        self.outputs = list(outputs) if outputs is not None else output_nodes(table, depth)
        validate_table(table, depth, self.outputs)
        self.edge_order = edge_order
        self.fuse = fuse
        self.dim = dim
        self.interpolation = _INTERPOLATION[interpolation][dim]
        self._last_use = _last_uses(table, self.outputs)
        self._convolves_cat = fuse == "cat" and node_convs > 0
        self._carried_widths: dict[Node, list[int]] = {}
        self.edges = nn.ModuleDict()
        self.nodes = nn.ModuleDict()
        if isinstance(node_channels, int):
            node_channels = [node_channels] * depth
        block = functools.partial(conv_block, norm=norm, dim=dim)
        widths = {(level, 0): width for level, width in enumerate(in_channels)}
        for node, edges in table.items():
            convolved = [e for e in edges if e.conv and edge == "f"]
            for e in convolved:
                self.edges[edge_key(e, node)] = block(widths[e.source], edge_channels)
            carried = [edge_channels if e in convolved else widths[e.source] for e in edges]
            self._carried_widths[node] = carried
            node_widths = [self._fused_width(node, carried), *[node_channels[node[0]]] * node_convs]
            blocks = [block(a, b) for a, b in itertools.pairwise(node_widths)]
            self.nodes[node_key(node)] = nn.Sequential(*blocks)
            widths[node] = node_widths[-1]
        self.out_channels = [widths[node] for node in self.outputs]

    def _fused_width(self, node: Node, widths: list[int]) -> int:
        if self.fuse == "cat":
            return sum(widths)
        if len(set(widths)) > 1:
            raise ConfigError(
                f"node X[{node[0]},{node[1]}] cannot add maps of {widths} channels: fuse by 'cat', "
                "or make encoder, NODE_CHANNELS and EDGE_CHANNELS equally wide."
            )
        return widths[0]

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """
        Args:
            features: the encoder maps X[i,0], finest first, as (N, C_i, H_i, W_i) or, in 3D,
                (N, C_i, D_i, H_i, W_i); each about half as large as the one before, in any
                rounding.

        Returns:
            list[Tensor]: the maps of :attr:`outputs`, each of its level's size.
        """
        sizes = [feature.shape[2:] for feature in features]
        maps = {(level, 0): feature for level, feature in enumerate(features)}
        for node, edges in self.table.items():
            carried = [self._carry(maps[edge.source], edge, node, sizes) for edge in edges]
            maps[node] = self._run_node(node, edges, carried)
            for spent in self._last_use[node]:
                del maps[spent]
        return [maps[node] for node in self.outputs]

    def _run_node(self, node: Node, edges: list[Edge], carried: list[Tensor]) -> Tensor:
        blocks = self.nodes[node_key(node)]
        in_place = [self._convolves_in_place(edge, node) for edge in edges]
        if not any(in_place):
            return blocks(self._join(carried))
        (conv, *layers), *others = blocks
        weights = conv.weight.split(self._carried_widths[node], dim=1)
        x = _sum_of_convolutions(carried, weights, conv.bias, in_place)
        for layer in (*layers, *others):
            x = layer(x)
        return x

    def _convolves_in_place(self, edge: Edge, node: Node) -> bool:
        unchanged = edge.level == node[0] and edge_key(edge, node) not in self.edges
        return self._convolves_cat and unchanged

    def _carry(self, x: Tensor, edge: Edge, node: Node, sizes: list[torch.Size]) -> Tensor:
        key = edge_key(edge, node)
        levels_up = edge.level - node[0]
        size = sizes[node[0]]
        if key not in self.edges:
            return self._resize(x, levels_up, size)
        if levels_up > 0 and self.edge_order == "conv_up":
            return self._resize(self.edges[key](x), levels_up, size)
        return self.edges[key](self._resize(x, levels_up, size))

    def _resize(self, x: Tensor, levels_up: int, size: torch.Size) -> Tensor:
        if levels_up == 0:
            return x
        if levels_up > 0:
            return F.interpolate(x, size=size, mode=self.interpolation)
        return self._pool(x, 2**-levels_up, size)

    def _pool(self, x: Tensor, factor: int, size: torch.Size) -> Tensor:
        rounds_up = any(n > m // factor for n, m in zip(size, x.shape[2:], strict=True))
        pooled = _MAX_POOL[self.dim](x, [factor] * self.dim, ceil_mode=rounds_up)
        if pooled.shape[2:] != size:
            raise SchemeError(
                f"a level of size {tuple(size)} is not 1/{factor} of {tuple(x.shape[2:])}: the "
                "sizes of the encoder maps must halve from level to level."
            )
        return pooled

    def _join(self, maps: list[Tensor]) -> Tensor:
        if self.fuse == "cat":
            return torch.cat(maps, dim=1)
        total = sum(maps[1:], start=maps[0])
        return total / len(maps) if self.fuse == "avg" else total


def conv_block(in_channels: int, out_channels: int, *, norm, dim: int = 2) -> nn.Sequential:
    """``f``: 3x3 convolution (He initialisation), norm and ReLU, all of ``dim`` dimensions."""
    norm_layer = get_norm(nn.BatchNorm3d if norm == "BN" and dim == 3 else norm, out_channels)
    conv = _CONV[dim](in_channels, out_channels, 3, padding=1, bias=norm_layer is None)
    weight_init.c2_msra_fill(conv)
    layers = [conv, norm_layer, nn.ReLU(inplace=True)]
    return nn.Sequential(*(layer for layer in layers if layer is not None))


def _sum_of_convolutions(
    maps: list[Tensor], weights: Sequence[Tensor], bias: Tensor | None, in_place: list[bool]
) -> Tensor:
    """The 3x3 convolution of the concatenated maps, concatenating only those not ``in_place``."""
    terms = [(x, w) for x, w, alone in zip(maps, weights, in_place, strict=True) if alone]
    others = [(x, w) for x, w, alone in zip(maps, weights, in_place, strict=True) if not alone]
    if others:
        terms.append(tuple(torch.cat(part, dim=1) for part in zip(*others, strict=True)))
    convolve = _CONV_FUNCTION[maps[0].dim() - 2]
    (x, weight), *terms = terms
    total = convolve(x, weight, bias, padding=1)
    for x, weight in terms:
        total = total + convolve(x, weight, padding=1)
    return total


def node_key(node: Node) -> str:
    """The name of a node among the parameters: ``grid.nodes.<key>...``."""
    return f"{node[0]}_{node[1]}"


def edge_key(edge: Edge, node: Node) -> str:
    """The name of a convolved edge among the parameters: ``grid.edges.<key>...``."""
    return f"{node_key(edge.source)}_to_{node_key(node)}"


def _last_uses(table: Table, outputs: Sequence[Node]) -> dict[Node, list[Node]]:
    """For every node, the maps that nothing after it needs, so that they can be freed."""
    last = {edge.source: node for node, edges in table.items() for edge in edges}
    spent: dict[Node, list[Node]] = {node: [] for node in table}
    for source, node in last.items():
        if source not in outputs:
            spent[node].append(source)
    return spent
