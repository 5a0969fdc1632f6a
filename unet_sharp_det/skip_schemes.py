"""Skip schemes as tables: which maps each node of a grid takes in. No torch, no image dimension.

A grid has ``depth`` levels (0 the finest) and columns (0 the encoder). ``X[i,j]`` is the node of
level ``i`` and column ``j``; the ``X[i,0]`` are given from outside. A *table* maps every other node
to its inputs, in evaluation order::

    {(level, column): [Edge(level, column, conv), ...]}

The interpreter is :mod:`.modeling.skip_grid`. To add a scheme, write its function under its
equation and decorate it with :func:`register_scheme`; necks, configs and tests find it by its name.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

from .errors import SchemeError, look_up_option

Node = tuple[int, int]


class Edge(NamedTuple):
    """One input of a node: ``X[level, column]``, within an ``f`` of the equation if ``conv``."""

    level: int
    column: int
    conv: bool = False

    @property
    def source(self) -> Node:
        return (self.level, self.column)


Table = dict[Node, list[Edge]]

_SCHEMES: dict[str, Callable[[int], Table]] = {}
_ALIASES: dict[str, str] = {}


def register_scheme(name: str, aliases: Iterable[str] = ()):
    """Decorate a function ``depth -> Table`` to make it known as ``name`` and by ``aliases``."""

    def register(function):
        for key in (name, *aliases):
            if _ALIASES.get(key.lower(), name) != name or (key == name and name in _SCHEMES):
                raise SchemeError(f"skip scheme name '{key}' is taken; choose another one.")
            _ALIASES[key.lower()] = name
        _SCHEMES[name] = function
        return function

    return register


def scheme_names() -> list[str]:
    """The canonical names of all registered schemes, in order of registration."""
    return list(_SCHEMES)


def scheme_module(name: str) -> str | None:
    """The module that registers a scheme; None if it is this one, or the scheme is unknown."""
    module = getattr(_SCHEMES.get(name), "__module__", __name__)
    return None if module == __name__ else module


def resolve_scheme(name: str, key: str = "SKIP_SCHEME") -> str:
    """Return the canonical name of a scheme.

    Args:
        name: a canonical name or alias, upper or lower case.
        key: the config key that it comes from, for messages.

    Raises:
        SchemeError: the name is unknown, or empty, as YAML makes it of an unquoted ``#``.
    """
    if name is None or name == "":
        raise SchemeError(
            f"{key} is empty: YAML reads an unquoted # as a comment. "
            f'Write one of {", ".join(scheme_names())}, or "#" in quotes.'
        )
    return _ALIASES[look_up_option(str(name).lower(), _ALIASES, key, SchemeError)]


def build_table(scheme: str, depth: int) -> Table:
    """Return the validated table of ``scheme`` for a grid of ``depth`` >= 2 levels."""
    name = resolve_scheme(scheme)
    if depth < 2:
        raise SchemeError(f"skip scheme '{name}' needs at least 2 levels, got {depth}.")
    table = _SCHEMES[name](depth)
    validate_table(table, depth, output_nodes(table, depth))
    return table


@register_scheme("fpn", aliases=("unet", "plain"))
def fpn(depth: int) -> Table:
    """The plain top-down path of UNet and FPN: a level's encoder map and the level below.

    ``X[i,D-i] = H( X[i,0], U(X[i+1,D-i-1]) )``, D = depth - 1 (Ronneberger et al. 2015, Fig. 1;
    Lin et al. 2017, Fig. 3).
    """
    last = depth - 1
    return {(i, last - i): [Edge(i, 0), Edge(i + 1, last - i - 1)] for i in reversed(range(last))}


@register_scheme("unetpp", aliases=("++", "unet++", "unet2+"))
def unetpp(depth: int) -> Table:
    """UNet++: dense along a level, and the level below of the column before.

    ``X[i,j] = H( [X[i,0], ..., X[i,j-1]], U(X[i+1,j-1]) )`` (Zhou et al. 2019, Eq. 1).
    """
    return {(i, j): [*_row(i, j), Edge(i + 1, j - 1)] for i, j in _triangle(depth)}


@register_scheme("unet3p", aliases=("+++", "unet+++", "unet3+"))
def unet3p(depth: int) -> Table:
    """UNet 3+: every decoder node sees all scales, each through a convolution of its own.

    ``D[i] = H( [f(P(E[k]))]_{k<i}, f(E[i]), [f(U(D[k]))]_{k>i} )`` with ``E[i] = X[i,0]``,
    ``D[i] = X[i,D-i]``, ``D[D] = E[D]`` (Huang et al. 2020, Eq. 1).
    """
    last = depth - 1
    return {
        (i, last - i): [Edge(k, 0, conv=True) for k in range(i + 1)]
        + [Edge(k, last - k, conv=True) for k in range(i + 1, depth)]
        for i in reversed(range(last))
    }


@register_scheme("unetsharp", aliases=("#", "unet#"))
def unetsharp(depth: int) -> Table:
    """UNet#: dense as UNet++, and full-scale along the node's anti-diagonal.

    ``X[i,j] = H( [X[i,0], ..., X[i,j-1]], U(X[i+1,j-1]), [f(U(X[i+j-k,k]))]_{k=0..j-2} )``
    (Qian et al. 2022, Eq. 1, as its two worked examples in Sec. 2.1 correct the printed form).
    """
    return {
        (i, j): [*_row(i, j), Edge(i + 1, j - 1)]
        + [Edge(i + j - k, k, conv=True) for k in range(j - 1)]
        for i, j in _triangle(depth)
    }


@register_scheme("pafpn", aliases=("panet",))
def pafpn(depth: int) -> Table:
    """PANet: FPN's top-down path, then a bottom-up one over its maps.

    ``N[i] = H( P[i], f(N[i-1]) )`` with ``P`` the maps of :func:`fpn`, ``N[0] = P[0]``,
    ``N[i] = X[i,D-i+1]``; ``f`` has stride 2 (Liu et al. 2018, Sec. 3.1 and Fig. 1b).
    """
    return fpn(depth) | {
        (i, j): [Edge(i, j - 1), Edge(*before, conv=True)] for before, (i, j) in _way_up(depth)
    }


@register_scheme("bifpn")
def bifpn(depth: int) -> Table:
    """BiFPN, one layer: as :func:`pafpn`, and the way up takes the encoder's map too.

    ``N[i] = H( X[i,0], P[i], P(N[i-1]) )``, ``N[D] = H( X[D,0], P(N[D-1]) )`` (Tan et al. 2020,
    Fig. 2d and Sec. 3.3).
    """
    return fpn(depth) | {
        (i, j): [*(Edge(i, k) for k in sorted({0, j - 1})), Edge(*before)]
        for before, (i, j) in _way_up(depth)
    }


@register_scheme("sharp_bi", aliases=("#bi",))
def sharp_bi(depth: int) -> Table:
    """UNet# with its mirrored edges: every edge from a coarser level has one from a finer level.

    ``X[i,j] = H( [X[i,0], ..., X[i,j-1]], U(X[i+1,j-1]), P(X[i-1,j-1]),
    [f(U(X[i+j-k,k])), f(P(X[i-j+k,k]))]_{k=0..j-2} )`` for all levels and ``j = 1..D``, of the
    inputs that exist (this project; without the edges from finer levels, the nodes that UNet# has
    too are those of UNet#).
    """
    return {
        (i, j): _row(i, j)
        + [
            Edge(i + sign * (j - k), k, conv=j - k > 1)
            for k in reversed(range(j))
            for sign in (1, -1)
            if 0 <= i + sign * (j - k) < depth
        ]
        for j in range(1, depth)
        for i in range(depth)
    }


def _triangle(depth: int) -> list[Node]:
    """The nodes with ``level + column < depth`` right of the encoder, column by column."""
    return [(i, j) for j in range(1, depth) for i in range(depth - j)]


def _way_up(depth: int) -> list[tuple[Node, Node]]:
    """``N[i-1], N[i]`` for all levels, N a path from fine to coarse beside FPN's maps."""
    path = [(0, depth - 1), *((i, depth - i) for i in range(1, depth))]
    return list(itertools.pairwise(path))


def _row(level: int, column: int) -> list[Edge]:
    """All nodes of a level before ``column``."""
    return [Edge(level, k) for k in range(column)]


def output_nodes(table: Table, depth: int) -> list[Node]:
    """The last node of every level, finest first: the outputs of a pyramid."""
    columns = [[j for i, j in table if i == level] for level in range(depth)]
    return [(level, max(found, default=0)) for level, found in enumerate(columns)]


def identity_inputs(node: Node, edges: list[Edge]) -> list[Node]:
    """What FPN would add at a node: the encoder's map and the node one level below.

    A node that takes none from below, as on a way from fine to coarse, has the last node of its
    level instead. So the last node of every level is FPN's, if nothing is added to these sums.

    Raises:
        SchemeError: the node takes no node of its level.
    """
    own = [edge.source for edge in edges if edge.level == node[0]]
    below = [edge.source for edge in edges if edge.level == node[0] + 1]
    if not own:
        raise SchemeError(
            f"{node_name(node)} takes no node of its level, which a residual one needs."
        )
    return [own[0], max(below)] if below else [max(own)]


def ancestors(table: Table, outputs: Iterable[Node]) -> set[Node]:
    """All nodes that the values of ``outputs`` depend on, themselves included."""
    reached = set(outputs)
    for node in reversed(table):
        if node in reached:
            reached.update(edge.source for edge in table[node])
    return reached


def prune(table: Table, outputs: Iterable[Node]) -> Table:
    """The part of ``table`` that ``outputs`` need: pruning is reachability.

    For UNet++ and UNet#, ``prune(table, [(0, k)])`` is the paper's ``L^k`` (Sec. 3.4.3).

    Raises:
        SchemeError: an output is not a node of the table.
    """
    outputs = list(outputs)
    for node in outputs:
        if node not in table and node[1] != 0:
            raise SchemeError(f"{node_name(node)} is no node of the table; nodes: {_names(table)}.")
    kept = ancestors(table, outputs)
    return {node: edges for node, edges in table.items() if node in kept}


def validate_table(table: Table, depth: int, outputs: Iterable[Node]) -> None:
    """Check that a table can be run and that nothing in it is idle.

    Every input exists and comes before its node, no input comes twice, and every node, the
    encoder's ``X[0..depth-1, 0]`` included, reaches an output (an idle one would leave parameters
    without gradient, which breaks distributed training).

    Raises:
        SchemeError: naming the node and the reason.
    """
    defined = {(level, 0) for level in range(depth)}
    for node, edges in table.items():
        if not (0 <= node[0] < depth and node[1] >= 1):
            raise SchemeError(
                f"{node_name(node)} lies outside the grid: levels 0..{depth - 1}, columns from 1."
            )
        sources = [edge.source for edge in edges]
        if not sources:
            raise SchemeError(f"{node_name(node)} has no input.")
        if len(set(sources)) != len(sources):
            raise SchemeError(f"{node_name(node)} takes the same input twice: {_names(sources)}.")
        for source in sources:
            if source not in defined:
                fault = "comes after it" if source in table else "is not defined"
                raise SchemeError(f"{node_name(node)} takes {node_name(source)}, which {fault}.")
        defined.add(node)
    idle = defined - ancestors(table, outputs)
    if idle:
        names = _names(sorted(idle))
        raise SchemeError(f"no output depends on {names}; outputs: {_names(outputs)}.")


def node_name(node: Node) -> str:
    """``X[i,j]``, as the equations have it."""
    return f"X[{node[0]},{node[1]}]"


def _names(nodes: Iterable[Node]) -> str:
    return ", ".join(map(node_name, nodes))
