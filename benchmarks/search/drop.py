"""Which edges of a table a budget leaves."""

from collections.abc import Callable

from unet_sharp_det.errors import SchemeError
from unet_sharp_det.skip_schemes import Node, Table, identity_inputs, output_nodes, prune

Link = tuple[Node, Node]


def drop_edges(
    table: Table,
    depth: int,
    importance: dict[Link, float],
    gmac: Callable[[Table], float],
    budget: float,
) -> Table:
    """Drop the edges that matter least for what they cost, until the budget holds.

    What FPN would add at a node stays (:func:`identity_inputs`); nodes that no output needs any
    more go with their edges.

    Args:
        table: to begin with, of ``depth`` levels.
        importance: ``{(node, source): value}`` of each edge.
        gmac: 1e9 multiply-adds of the network with a table.
        budget: the most that these may be.

    Raises:
        SchemeError: the edges that stay cost more.
    """
    check_budget(table, depth, gmac, budget)
    outputs = output_nodes(table, depth)
    whole = gmac(table)
    worth = {
        (node, edge.source): importance[node, edge.source]
        / max(whole - gmac(_without(table, node, edge.source, outputs)), 1e-9)
        for node, edges in table.items()
        for edge in edges
        if edge.source not in identity_inputs(node, edges)
    }
    cost = whole
    for node, source in sorted(worth, key=worth.get):
        if cost <= budget:
            break
        if node in table:
            table = _without(table, node, source, outputs)
            cost = gmac(table)
    return table


def check_budget(table: Table, depth: int, gmac: Callable[[Table], float], budget: float) -> None:
    """Raise the SchemeError of :func:`drop_edges`, whose arguments these are."""
    kept = {
        node: [edge for edge in edges if edge.source in identity_inputs(node, edges)]
        for node, edges in table.items()
    }
    least = gmac(prune(kept, output_nodes(table, depth)))
    if least > budget:
        raise SchemeError(
            f"the budget is {budget:g} GMAC, but FPN's own edges cost {least:.3f}. Allow more."
        )


def _without(table: Table, node: Node, source: Node, outputs: list[Node]) -> Table:
    kept = [edge for edge in table[node] if edge.source != source]
    return prune(table | {node: kept}, outputs)
