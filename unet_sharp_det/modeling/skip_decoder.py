"""The decoder of a U-Net after any skip scheme: a grid, and on some of its nodes a branch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import fvcore.nn.weight_init as weight_init
from torch import Tensor, nn

from ..errors import ConfigError, look_up_option
from ..skip_schemes import Node, Table, build_table, output_nodes, resolve_scheme
from .cgm import ClassificationGuidedModule
from .layers import CONV
from .skip_grid import SkipGrid, node_key

SUPERVISION = ("none", "in", "de", "all")


@dataclass(frozen=True)
class DecoderRecipe:
    """How a scheme's table is run as a decoder unless the arguments of :class:`SkipDecoder` say.

    Attributes:
        edge_channels: channels of a convolved edge.
        share_edges: whether the convolved edges from one source have one ``f`` in common.
        node_convs: convolutions in a node.
        node_channels: channels of all nodes; None: of the encoder's map of their level.
    """

    edge_channels: int = 32
    share_edges: bool = True
    node_convs: int = 2
    node_channels: int | None = None


# By scheme and edge. UNet 3+ with convolved edges is the published one: 64 channels a branch, all
# five fused to 320 (Huang et al. 2020, Sec. 2.1); with raw edges it is that of UNet#'s Table 1.
RECIPES = {
    ("unet3p", "f"): DecoderRecipe(64, share_edges=False, node_convs=1, node_channels=320),
}


class Branch(NamedTuple):
    """What a branch says: logits (N, C, H, W), and CGM's logits (N, 2) or None."""

    logits: Tensor
    presence: Tensor | None


class SkipDecoder(nn.Module):
    """A skip grid with branches: a convolution to logits on a node, and its CGM if wanted.

    The branches (UNet#, Sec. 2.2 and Fig. 2) are In = X[0,1..D], of full size, by a 1x1
    convolution, and De = the last node of every coarser level, X[i,D-i], by a 3x3 convolution.
    ``deep_supervision`` chooses: ``none`` (X[0,D] alone), ``in``, ``de`` (with X[0,D]) or ``all``.
    The paper's ReLU on the logits is left out: it would keep every probability at .5 or more.

    A network of depth D + 1 is the paper's L^D; L^k is built of the first k + 1 levels.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int = 1,
        *,
        scheme: str = "unetsharp",
        strides: Sequence[int] | None = None,
        edge: str = "f",
        edge_order: str = "up_conv",
        edge_channels: int | None = None,
        node_channels: Sequence[int] | None = None,
        norm: str = "BN",
        deep_supervision: str = "none",
        cgm: bool = False,
        cgm_dropout: float = 0.5,
        dim: int = 2,
        checkpoint: bool = False,
    ):
        """
        Args:
            in_channels: channels of the encoder maps X[0,0], X[1,0], ...
            num_classes: channels of the logits.
            scheme: name of a registered skip scheme.
            strides, edge, edge_order, dim, checkpoint: as in :class:`SkipGrid`.
            edge_channels: channels of convolved edges. None: the scheme's (:data:`RECIPES`).
            node_channels: channels of the nodes, one number per level. None: the scheme's.
            norm: norm of the convolutions, which have a bias beside it (as the paper's counts).
            deep_supervision: ``none``, ``in``, ``de`` or ``all``.
            cgm: give every branch a classification-guided module.
            cgm_dropout: its dropout.

        Raises:
            ConfigError: an option is unknown, or widths do not fit the number of levels.
            SchemeError: the scheme is unknown.
        """
        super().__init__()
        depth = len(in_channels)
        if node_channels is not None and len(node_channels) != depth:
            raise ConfigError(
                f"SEM_SEG_HEAD.NODE_CHANNELS has {len(node_channels)} numbers for {depth} levels."
            )
        self.scheme = resolve_scheme(scheme, "MODEL.SEM_SEG_HEAD.SKIP_SCHEME")
        table = build_table(self.scheme, depth)
        self.branches = branch_nodes(table, depth, deep_supervision)
        recipe = RECIPES.get((self.scheme, edge), DecoderRecipe())
        self.grid = SkipGrid(
            table,
            in_channels,
            node_channels or recipe.node_channels or in_channels,
            strides=strides,
            edge_channels=edge_channels or recipe.edge_channels,
            edge=edge,
            edge_order=edge_order,
            share_edges=recipe.share_edges,
            node_convs=recipe.node_convs,
            norm=norm,
            bias=True,
            dim=dim,
            outputs=self.branches,
            checkpoint=checkpoint,
        )
        self.heads = nn.ModuleDict()
        self.cgm = nn.ModuleDict()
        for node, width in zip(self.branches, self.grid.out_channels, strict=True):
            self.heads[node_key(node)] = _logits(width, num_classes, 1 if node[0] == 0 else 3, dim)
            if cgm:
                hidden = width if _has_large_cgm(node) else None
                self.cgm[node_key(node)] = ClassificationGuidedModule(
                    width, hidden=hidden, dropout=cgm_dropout, dim=dim
                )

    @property
    def full_size_branches(self) -> list[Node]:
        """The branches of level 0, the last one last."""
        return [node for node in self.branches if node[0] == 0]

    def forward(
        self, features: Sequence[Tensor], branches: Iterable[Node] | None = None
    ) -> dict[Node, Branch]:
        """
        Args:
            features: the encoder maps, finest first, (N, C_i, H_i, W_i) or (N, C_i, D_i, H_i, W_i).
            branches: those to compute. None: all.

        Returns:
            dict[Node, Branch]: for X[i,j], logits (N, num_classes, H_i, W_i).
        """
        maps = dict(zip(self.branches, self.grid(features), strict=True))
        return {
            node: self._branch(node, maps[node])
            for node in (self.branches if branches is None else branches)
        }

    def _branch(self, node: Node, x: Tensor) -> Branch:
        key = node_key(node)
        return Branch(self.heads[key](x), self.cgm[key](x) if key in self.cgm else None)


def branch_nodes(table: Table, depth: int, deep_supervision: str) -> list[Node]:
    """The nodes that have a branch; those of level 0 first.

    Raises:
        ConfigError: ``deep_supervision`` is not one of :data:`SUPERVISION`.
    """
    where = "SEM_SEG_HEAD.DEEP_SUPERVISION"
    look_up_option(deep_supervision, SUPERVISION, where, ConfigError)
    last, *coarser = output_nodes(table, depth)
    inner = [node for node in table if node[0] == 0 and node != last]
    return [
        *(inner if deep_supervision in ("in", "all") else []),
        last,
        *(coarser if deep_supervision in ("de", "all") else []),
    ]


def _has_large_cgm(node: Node) -> bool:
    """X[3,1] and X[4,0], whose maps have many channels, have CGM's large form (Fig. 3)."""
    return node[0] >= 3


def _logits(in_channels: int, num_classes: int, kernel_size: int, dim: int) -> nn.Module:
    conv = CONV[dim](in_channels, num_classes, kernel_size, padding=kernel_size // 2)
    weight_init.c2_xavier_fill(conv)
    return conv
