"""A grid with a gate on every edge, which tells how much a trained network needs the edge."""

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY
from torch import Tensor, nn

from unet_sharp_det import SkipFPN, SkipGrid
from unet_sharp_det.modeling.skip_fpn import build_skip_fpn_backbone
from unet_sharp_det.skip_schemes import Edge, Node, Table, register_scheme

GATED_BACKBONE = "build_gated_fpn_backbone"

_LOOKS_BACK = 200  # backward passes


@register_scheme("full")
def full(depth: int) -> Table:
    """Every edge that a table may have: a node takes all nodes of all columns before its own.

    ``X[i,j] = H( [X[i,k]]_{k<j}, U(X[i+1,j-1]), P(X[i-1,j-1]), [f(R(X[l,k]))]_{other l, k<j} )``
    for all levels and ``j = 1..D``; R resizes.
    """
    return {
        (i, j): [
            Edge(level, k, conv=level != i and abs(level - i) + j - k > 2)
            for k in range(j)
            for level in range(depth)
        ]
        for j in range(1, depth)
        for i in range(depth)
    }


class GatedGrid(SkipGrid):
    """A :class:`SkipGrid` that multiplies what each edge carries by a gate.

    Gates begin at 1 and are trained as all parameters are. ``importance`` (E,) is the running mean
    of ``(g dL/dg)^2`` over the last backward passes: to first order, the square of what the loss
    would change by without the edge (Molchanov et al. 2019, Taylor expansion at gates).

    Example::

        >>> import torch
        >>> from benchmarks.search.gated_grid import GatedGrid, full
        >>> from unet_sharp_det import GridOptions
        >>> grid = GatedGrid(full(2), [8, 8], GridOptions(node_channels=8))
        >>> fine, coarse = grid([torch.rand(1, 8, 4, 4), torch.rand(1, 8, 2, 2)])
        >>> (fine.sum() + coarse.sum()).backward()
        >>> [(node, source) for node, source in grid.links if node == (0, 1)]
        [((0, 1), (0, 0)), ((0, 1), (1, 0))]
        >>> bool((grid.importance > 0).all())
        True
    """

    def __init__(self, table, in_channels, options, **kwargs):
        """Take the arguments of :class:`SkipGrid`."""
        super().__init__(table, in_channels, options, **kwargs)
        self.links = [(node, edge.source) for node, edges in table.items() for edge in edges]
        self.gates = nn.Parameter(torch.ones(len(self.links)))
        self.register_buffer("importance", torch.zeros(len(self.links)))
        self.gates.register_hook(self._note_importance)

    def _note_importance(self, gradient: Tensor) -> None:
        found = (self.gates.detach() * gradient) ** 2
        self.importance.lerp_(found, 1 / _LOOKS_BACK)

    def _carry(self, x: Tensor, edge: Edge, node: Node, size: torch.Size) -> Tensor:
        gate = self.gates[self.links.index((node, edge.source))]
        return gate * super()._carry(x, edge, node, size)


@BACKBONE_REGISTRY.register()
def build_gated_fpn_backbone(cfg, input_shape: ShapeSpec) -> SkipFPN:
    """Build the neck that the config says, with a :class:`GatedGrid`."""
    neck = build_skip_fpn_backbone(cfg, input_shape)
    grid = neck.grid
    widths = [cfg.MODEL.FPN.OUT_CHANNELS] * len(grid.strides)
    neck.grid = GatedGrid(grid.table, widths, grid.options, strides=grid.strides)
    return neck
