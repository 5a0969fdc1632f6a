"""The interpreter of skip tables: one module that runs any scheme, in 2D or 3D."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..errors import ConfigError, look_up_option
from ..skip_schemes import (
    Edge,
    Node,
    Table,
    identity_inputs,
    node_name,
    output_nodes,
    validate_table,
)
from .irsc import retain_half
from .layers import (
    CONV,
    CONV_FUNCTION,
    INTERPOLATION,
    MaxPoolToSize,
    conv_block,
    convolve_upsampled,
    pad_or_cut,
    recompute_in_backward,
    sum_of_convolutions,
    written_out,
)

fx.wrap("convolve_upsampled")

_CONCATENATING = ("cat", "residual")
_FUSE = (*_CONCATENATING, "sum", "avg", "weighted")


@dataclass(frozen=True)
class GridOptions:
    """How a :class:`SkipGrid` runs a table.

    Attributes:
        node_channels: channels of the nodes right of the encoder: one number, or one per level.
            None: as the encoder's map of the level.
        edge_channels: channels that a convolved edge carries. None: as its source.
        skip: ``concat`` takes the encoder's maps as they are; ``irsc`` the half of their channels
            that an information-retention skip connection keeps (:func:`.irsc.retain_half`), but
            for maps that are upsampled, which are the way from below.
        edge: ``f`` convolves the edges that the table marks, ``raw`` leaves them as they are.
        edge_order: ``conv_up`` convolves an edge from a coarser level at the source's resolution,
            then upsamples (factor**dim fewer multiply-adds); ``up_conv`` upsamples first, as the
            equations read.
        edge_down: ``pool`` max-pools what comes from a finer level, before its ``f`` if it has
            one; with ``stride`` that ``f`` has stride 2, and what is left is max-pooled.
        share_edges: whether all convolved edges from one source have one ``f`` in common.
        fuse: ``cat`` concatenates a node's inputs. ``sum`` and ``avg`` add them, for which they
            must be equally wide, and ``weighted`` adds them by weights that are trained (fast
            normalised fusion, Tan et al. 2020, Sec. 3.3). ``residual`` adds to FPN's sum,
            :func:`.skip_schemes.identity_inputs`, what ``H`` makes of the concatenated inputs,
            through a 1x1 convolution that begins at zero; nodes are as wide as the encoder's maps,
            which must be equally wide, and ``node_channels`` are those of ``H``.
        node_convs: number of ``f`` in a node. 0: the fused map is the node.
        norm: as :func:`detectron2.layers.get_norm` takes it, e.g. "", "BN" or "GN".
        bias: whether convolutions have one. None: exactly if there is no norm.
        interpolation: ``linear`` (bi-, trilinear; corners not aligned) or ``nearest``.
        dim: 2 or 3 spatial dimensions.
        checkpoint: in training, keep only the nodes' maps; compute the rest anew in the backward
            pass.

    Raises:
        ConfigError: an option has no such value.
    """

    node_channels: int | Sequence[int] | None = None
    edge_channels: int | None = 64
    skip: str = "concat"
    edge: str = "f"
    edge_order: str = "conv_up"
    edge_down: str = "pool"
    share_edges: bool = False
    fuse: str = "cat"
    node_convs: int = 1
    norm: str = ""
    bias: bool | None = None
    interpolation: str = "linear"
    dim: int = 2
    checkpoint: bool = False

    def __post_init__(self):
        look_up_option(self.skip, ("concat", "irsc"), "skip", ConfigError)
        look_up_option(self.edge, ("f", "raw"), "edge", ConfigError)
        look_up_option(self.edge_order, ("conv_up", "up_conv"), "edge_order", ConfigError)
        look_up_option(self.edge_down, ("pool", "stride"), "edge_down", ConfigError)
        look_up_option(self.fuse, _FUSE, "fuse", ConfigError)
        look_up_option(self.interpolation, INTERPOLATION, "interpolation", ConfigError)
        if self.dim not in (2, 3):
            raise ConfigError(f"dim is {self.dim}, but images have 2 or 3 dimensions.")

    def changed(self, **fields) -> "GridOptions":
        """These options with the ``fields`` that are not None."""
        given = {name: value for name, value in fields.items() if value is not None}
        return replace(self, **given)

    def widths(self, in_channels: Sequence[int]) -> list[int]:
        """The channels of ``H`` at each level, the encoder's maps having ``in_channels``."""
        if self.node_channels is None:
            return list(in_channels)
        if isinstance(self.node_channels, int):
            return [self.node_channels] * len(in_channels)
        if len(self.node_channels) != len(in_channels):
            raise ConfigError(
                f"NODE_CHANNELS has {len(self.node_channels)} numbers for {len(in_channels)} "
                "levels. Give one number per level."
            )
        return list(self.node_channels)


class SkipGrid(nn.Module):
    """Run a skip table: ``X[i,j] = H( fuse( carry(edge) for its edges ) )``.

    ``carry`` brings a map to the level of the node: interpolation to that level's size from
    coarser maps, max-pooling by the ratio of the strides from finer ones, and a convolution ``f``
    where the table asks for it. ``f`` is 3x3 convolution, norm, ReLU; ``H`` is ``f`` repeated
    ``node_convs`` times. Nothing here knows a scheme's name.

    Two rearrangements change no value but by rounding. A convolution over concatenated maps is the
    sum of convolutions over each: a map of the node's own level that no ``f`` changes is convolved
    where it is, never copied into a concatenation that training would have to keep. And a
    convolution of an upsampled map may come first (:func:`.layers.convolve_upsampled`).

    Example::

        >>> import torch
        >>> from unet_sharp_det import GridOptions, SkipGrid, build_table
        >>> table = build_table("unetsharp", depth=3)
        >>> grid = SkipGrid(table, [16, 32, 64], GridOptions(node_channels=8))
        >>> maps = [torch.zeros(1, c, s, s) for c, s in [(16, 40), (32, 20), (64, 10)]]
        >>> [tuple(x.shape) for x in grid(maps)]
        [(1, 8, 40, 40), (1, 8, 20, 20), (1, 64, 10, 10)]
    """

    __prepare_scriptable__ = written_out
    # TorchScript has no types for these.
    __jit_ignored_attributes__ = ("table", "options", "_carried_widths", "_last_use")

    def __init__(
        self,
        table: Table,
        in_channels: Sequence[int],
        options: GridOptions,
        *,
        strides: Sequence[int] | None = None,
        outputs: Sequence[Node] | None = None,
    ):
        """
        Args:
            table: see :mod:`unet_sharp_det.skip_schemes`.
            in_channels: channels of the encoder maps X[0,0], X[1,0], ...; one per level.
            strides: pixels of the image per pixel of each encoder map; each as before or a multiple
                of it. None: they double.
            outputs: the nodes that :meth:`forward` returns; the last of each level by default.

        Raises:
            ConfigError: maps that a node adds are not equally wide.
            SchemeError: the table cannot be run.
        """
        super().__init__()
        depth = len(in_channels)
        self.options = options
        self.strides = list(strides) if strides is not None else [2**i for i in range(depth)]
        self._carried_widths = {}
        self.edges = nn.ModuleDict()
        self.nodes = nn.ModuleDict()
        self.pool = MaxPoolToSize()
        self.table = table
        self.outputs = list(outputs) if outputs is not None else output_nodes(table, depth)
        validate_table(table, depth, self.outputs)
        node_channels = options.widths(in_channels)
        # Of the nodes' own: X = identity + P(H), and the weights of a weighted sum.
        self.corrections = nn.ModuleDict()
        self.weights = nn.ParameterDict()
        if options.fuse == "residual" and len(set(in_channels)) > 1:
            raise ConfigError(
                f"residual nodes need maps of one width, but the encoder's have {in_channels} "
                "channels. Use a neck, or fuse by 'cat'."
            )
        block = functools.partial(conv_block, norm=options.norm, dim=options.dim, bias=options.bias)
        widths = {(level, 0): width for level, width in enumerate(in_channels)}
        for node, edges in table.items():
            carried = []
            for edge in edges:
                key, width = self._edge_key(edge, node), widths[edge.source]
                if self._retains_half(edge, node):
                    width = (width + 1) // 2
                if key and key not in self.edges:
                    self.edges[key] = block(width, options.edge_channels or width)
                carried.append((options.edge_channels or width) if key else width)
            self._carried_widths[node] = carried
            convs = [node_channels[node[0]]] * options.node_convs
            node_widths = [self._fused_width(node, carried), *convs]
            blocks = [block(a, b) for a, b in itertools.pairwise(node_widths)]
            self.nodes[node_key(node)] = nn.Sequential(*blocks)
            widths[node] = node_widths[-1]
            if options.fuse == "weighted":
                self.weights[node_key(node)] = nn.Parameter(torch.ones(len(edges)))
            if options.fuse == "residual":
                correction = CONV[options.dim](widths[node], in_channels[node[0]], 1)
                nn.init.zeros_(correction.weight)
                nn.init.zeros_(correction.bias)
                self.corrections[node_key(node)] = correction
                widths[node] = in_channels[node[0]]
        self.out_channels = [widths[node] for node in self.outputs]
        last_use = {
            spent: node
            for node, edges in table.items()
            for edge in edges
            for spent in (edge.source, self._edge_key(edge, node))
            if spent is not None and spent not in self.outputs
        }
        self._last_use = {n: [k for k, last in last_use.items() if last == n] for n in table}

    def _edge_key(self, edge: Edge, node: Node) -> str | None:
        """The name of the edge's ``f``, None if it has none."""
        if not edge.conv or self.options.edge == "raw":
            return None
        return node_key(edge.source) if self.options.share_edges else edge_key(edge, node)

    def _fused_width(self, node: Node, widths: list[int]) -> int:
        if self.options.fuse in _CONCATENATING:
            return sum(widths)
        if len(set(widths)) > 1:
            raise ConfigError(
                f"node {node_name(node)} cannot add maps of {widths} channels. Fuse by 'cat', "
                "or make encoder, NODE_CHANNELS and EDGE_CHANNELS equally wide."
            )
        return widths[0]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """
        Args:
            features: the encoder maps X[i,0], finest first, as (N, C_i, H_i, W_i) or, in 3D,
                (N, C_i, D_i, H_i, W_i), of the size that the strides say, in any rounding.

        Returns:
            list[Tensor]: the maps of :attr:`outputs`, each of its level's size.
        """
        sizes = [features[level].shape[2:] for level in range(len(self.strides))]
        # By node; and by name, what edges have convolved at their sources.
        maps = {(level, 0): features[level] for level in range(len(self.strides))}
        for node, edges in self.table.items():
            inputs = [self._source(edge, node, maps) for edge in edges]
            size = sizes[node[0]]
            x = self._run(functools.partial(self._node, node, size), *inputs)
            if self.options.fuse == "residual":
                x = self._identity(node, size, maps) + self.corrections[node_key(node)](x)
            maps[node] = x
            for spent in self._last_use[node]:
                maps.pop(spent, None)
        return [maps[node] for node in self.outputs]

    def _run(self, function: Callable, *inputs) -> Tensor:
        if self.options.checkpoint:
            return recompute_in_backward(function, *inputs)
        return function(*inputs)

    def _source(self, edge: Edge, node: Node, maps: dict[Node | str, Tensor]) -> Tensor:
        """The map that the edge starts from: its source, convolved there if ``f`` comes first."""
        if self._retains_half(edge, node):
            return retain_half(maps[edge.source])
        if not self._is_convolved_first(edge, node):
            return maps[edge.source]
        key = self._edge_key(edge, node)
        if key not in maps:
            maps[key] = self._run(self.edges[key], maps[edge.source])
        return maps[key]

    def _is_convolved_first(self, edge: Edge, node: Node) -> bool:
        first = self.options.edge_order == "conv_up" and self._goes_up(edge, node)
        return first and self._edge_key(edge, node) is not None

    def _retains_half(self, edge: Edge, node: Node) -> bool:
        is_skip = edge.column == 0 and not self._goes_up(edge, node)
        return is_skip and self.options.skip == "irsc"

    def _goes_up(self, edge: Edge, node: Node) -> bool:
        return self.strides[edge.level] > self.strides[node[0]]

    def _identity(self, node: Node, size: torch.Size, maps: dict[Node | str, Tensor]) -> Tensor:
        """FPN's value of a node, which interpolates by the nearest neighbour."""
        first, *below = (maps[source] for source in identity_inputs(node, self.table[node]))
        return sum((F.interpolate(x, size=size, mode="nearest") for x in below), start=first)

    def _node(self, node: Node, size: torch.Size, *inputs: Tensor) -> Tensor:
        edges = self.table[node]
        carried = [self._carry(x, e, node, size) for x, e in zip(inputs, edges, strict=True)]
        blocks = self.nodes[node_key(node)]
        convolves_cat = self.options.fuse in _CONCATENATING and len(blocks) > 0
        in_place = [convolves_cat and self._is_unchanged(edge, node) for edge in edges]
        if not any(in_place):
            return blocks(self._join(node, carried))
        (conv, *layers), *others = blocks
        x = sum_of_convolutions(conv, carried, self._carried_widths[node], in_place)
        return _run_in_turn((*layers, *others), x)

    def _is_unchanged(self, edge: Edge, node: Node) -> bool:
        return self._is_of_equal_stride(edge, node) and self._edge_key(edge, node) is None

    def _is_of_equal_stride(self, edge: Edge, node: Node) -> bool:
        return self.strides[edge.level] == self.strides[node[0]]

    def _carry(self, x: Tensor, edge: Edge, node: Node, size: torch.Size) -> Tensor:
        key = self._edge_key(edge, node)
        if key is None or self._is_convolved_first(edge, node):
            return self._resize(x, edge, node, size)
        if self._goes_up(edge, node):
            conv, *layers = self.edges[key]
            x = convolve_upsampled(x, conv.weight, conv.bias, size, self.options.interpolation)
            return _run_in_turn(layers, x)
        if self.options.edge_down == "stride" and not self._is_of_equal_stride(edge, node):
            return self._stride(x, edge, node, size)
        return self.edges[key](self._resize(x, edge, node, size))

    def _stride(self, x: Tensor, edge: Edge, node: Node, size: torch.Size) -> Tensor:
        """``f`` with stride 2, and max-pooling by what is left of the ratio of the strides.

        The convolution rounds up, the encoder perhaps down. Zeros change no maximum after a ReLU.
        """
        conv, *layers = self.edges[self._edge_key(edge, node)]
        convolve = CONV_FUNCTION[self.options.dim]
        x = convolve(x, conv.weight, conv.bias, stride=2, padding=1)
        x = _run_in_turn(layers, x)
        factor = self.strides[node[0]] // self.strides[edge.level] // 2
        x = pad_or_cut(x, [factor * size[k] for k in range(self.options.dim)])
        return self.pool(x, size, factor) if factor > 1 else x

    def _resize(self, x: Tensor, edge: Edge, node: Node, size: torch.Size) -> Tensor:
        if self._goes_up(edge, node):
            mode = INTERPOLATION[self.options.interpolation][self.options.dim]
            return F.interpolate(x, size=size, mode=mode)
        factor = self.strides[node[0]] // self.strides[edge.level]
        return x if factor == 1 else self.pool(x, size, factor)

    def _join(self, node: Node, maps: list[Tensor]) -> Tensor:
        if self.options.fuse in _CONCATENATING:
            return torch.cat(maps, dim=1)
        if self.options.fuse == "weighted":
            weights = F.relu(self.weights[node_key(node)])
            shares = weights / (weights.sum() + 1e-4)
            return sum(shares[k] * x for k, x in enumerate(maps))
        total = sum(maps[1:], start=maps[0])
        return total / len(maps) if self.options.fuse == "avg" else total


def node_key(node: Node) -> str:
    """The name of a node among the parameters: ``grid.nodes.<key>...``."""
    return f"{node[0]}_{node[1]}"


def edge_key(edge: Edge, node: Node) -> str:
    """The name of a convolved edge among the parameters: ``grid.edges.<key>...``."""
    return f"{node_key(edge.source)}_to_{node_key(node)}"


def _run_in_turn(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x
