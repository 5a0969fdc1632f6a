"""The decoder of a U-Net after any skip scheme: a grid, and on some of its nodes a branch."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor, nn

from ..errors import ConfigError, look_up_option
from ..skip_schemes import Node, Table, build_table, output_nodes, prune, resolve_scheme
from .cgm import ClassificationGuidedModule
from .layers import CONV, init_xavier
from .skip_grid import GridOptions, SkipGrid, node_key

SUPERVISION = ("none", "in", "de", "all")

_DEFAULT = GridOptions(
    edge_channels=32, edge_order="up_conv", share_edges=True, node_convs=2, norm="BN", bias=True
)
# UNet 3+ with convolved edges is the published one: 64 channels a branch, all five fused to 320
# (Huang et al. 2020, Sec. 2.1); with raw edges it is that of UNet#'s Table 1.
_PUBLISHED_UNET3P = replace(
    _DEFAULT, node_channels=320, edge_channels=64, share_edges=False, node_convs=1
)


def decoder_options(
    scheme: str,
    edge: str = "f",
    *,
    skip: str | None = None,
    node_channels: Sequence[int] | None = None,
    node_convs: int | None = None,
    edge_channels: int | None = None,
    edge_order: str | None = None,
    norm: str | None = None,
    dim: int | None = None,
    checkpoint: bool | None = None,
) -> GridOptions:
    """How a decoder runs a scheme: nodes as wide as the encoder's map of their level, of two
    convolutions with a bias beside the norm.

    Args:
        scheme: name of a registered skip scheme.
        edge, ...: fields of :class:`GridOptions`. None: as the scheme has it.

    Raises:
        SchemeError: the scheme is unknown.
        ConfigError: an option has no such value.
    """
    name = resolve_scheme(scheme, "MODEL.SEM_SEG_HEAD.SKIP_SCHEME")
    own = _PUBLISHED_UNET3P if (name, edge) == ("unet3p", "f") else _DEFAULT
    return own.changed(
        edge=edge,
        skip=skip,
        node_channels=node_channels,
        node_convs=node_convs,
        edge_channels=edge_channels,
        edge_order=edge_order,
        norm=norm,
        dim=dim,
        checkpoint=checkpoint,
    )


class Branch(NamedTuple):
    """What a branch says: logits (N, C, H, W), and CGM's logits (N, 2) or None."""

    logits: Tensor
    presence: Tensor | None


class BranchDecoder(nn.Module):
    """A grid with branches: a convolution to logits on a node, and its CGM if wanted."""

    def __init__(
        self,
        grid: nn.Module,
        num_classes: int,
        *,
        dim: int = 2,
        cgm: bool = False,
        cgm_dropout: float = 0.5,
    ):
        """
        Args:
            grid: as :class:`SkipGrid`; its ``outputs``, those of level 0 first, have branches.
            num_classes: channels of the logits.
            dim: 2 or 3 spatial dimensions.
            cgm: whether every branch has a classification-guided module, with ``cgm_dropout``.
        """
        super().__init__()
        self.grid = grid
        self.branches: list[Node] = grid.outputs
        self.heads = nn.ModuleDict()
        self.cgm = nn.ModuleDict()
        for node, width in zip(self.branches, grid.out_channels, strict=True):
            size = 1 if node[0] == 0 else 3
            head = CONV[dim](width, num_classes, size, padding=size // 2)
            init_xavier(head)
            self.heads[node_key(node)] = head
            if cgm:  # X[3,1] and X[4,0] have its large form (Fig. 3).
                hidden = width if node[0] >= 3 else None
                self.cgm[node_key(node)] = ClassificationGuidedModule(
                    width, hidden=hidden, dropout=cgm_dropout
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
        found = {}
        for node in self.branches if branches is None else branches:
            key, x = node_key(node), maps[node]
            presence = self.cgm[key](x) if key in self.cgm else None
            found[node] = Branch(self.heads[key](x), presence)
        return found


class SkipDecoder(BranchDecoder):
    """A skip grid with branches.

    The branches (UNet#, Sec. 2.2 and Fig. 2) are In = X[0,1..D], of full size, by a 1x1
    convolution, and De = the last node of every coarser level, X[i,D-i], by a 3x3 convolution.
    ``deep_supervision`` chooses: ``none`` (X[0,D] alone), ``in``, ``de`` (with X[0,D]) or ``all``.
    The paper's ReLU on the logits is left out: it would keep every probability at .5 or more.

    A network of depth D + 1 is the paper's L^D; L^k is built of the first k + 1 levels.

    Example::

        >>> import torch
        >>> from unet_sharp_det.modeling import SkipDecoder
        >>> decoder = SkipDecoder([8, 16, 32], num_classes=2, deep_supervision="in")
        >>> maps = [torch.zeros(1, c, s, s) for c, s in [(8, 32), (16, 16), (32, 8)]]
        >>> {node: tuple(branch.logits.shape) for node, branch in decoder(maps).items()}
        {(0, 1): (1, 2, 32, 32), (0, 2): (1, 2, 32, 32)}
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int = 1,
        *,
        scheme: str = "unetsharp",
        options: GridOptions | None = None,
        strides: Sequence[int] | None = None,
        deep_supervision: str = "none",
        cgm: bool = False,
        cgm_dropout: float = 0.5,
    ):
        """
        Args:
            in_channels, strides: see :class:`SkipGrid`.
            num_classes: channels of the logits.
            scheme: name of a registered skip scheme.
            options: None: :func:`decoder_options` of the scheme.
            deep_supervision: ``none``, ``in``, ``de`` or ``all``.
            cgm: whether every branch has a classification-guided module, with ``cgm_dropout``.

        Raises:
            ConfigError: an option is unknown, or widths do not fit the levels.
            SchemeError: the scheme is unknown.
        """
        depth = len(in_channels)
        scheme = resolve_scheme(scheme, "MODEL.SEM_SEG_HEAD.SKIP_SCHEME")
        options = options or decoder_options(scheme)
        table = build_table(scheme, depth)
        branches = branch_nodes(table, depth, deep_supervision)
        grid = SkipGrid(
            prune(table, branches), in_channels, options, strides=strides, outputs=branches
        )
        dim = options.dim
        super().__init__(grid, num_classes, dim=dim, cgm=cgm, cgm_dropout=cgm_dropout)
        self.scheme = scheme


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
