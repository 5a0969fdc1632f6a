"""A skip scheme's table as a picture."""

import math
from pathlib import Path

import matplotlib

from unet_sharp_det.files import atomic_path
from unet_sharp_det.report.drawing import new_figure
from unet_sharp_det.skip_schemes import Edge, Node, Table

_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "scheme"}


def draw_grid(path: Path, table: Table, depth: int, weights: dict | None = None) -> None:
    """Draw the nodes, levels downwards and columns to the right, and an arrow for each edge.

    Edges along a level are black, upsampling ones blue, pooling ones orange. Those that an ``f`` of
    the equation convolves are dashed.

    Args:
        path: of a PNG or SVG. In an SVG an arrow's id is that of :func:`edge_id`.
        depth: number of levels.
        weights: ``{(node, source): value}``, which make arrows darker; None: all are alike.
    """
    columns = 1 + max(column for _, column in table)
    figure = new_figure(1.6 * columns + 0.4, 1.3 * depth)
    axes = figure.subplots()
    nodes = [*((level, 0) for level in range(depth)), *table]
    most = max(weights.values()) if weights else 1
    for node, edges in table.items():
        for edge in edges:
            share = math.sqrt(weights[node, edge.source] / most) if weights and most else 1
            arrow = axes.annotate(
                "",
                (node[1], node[0]),
                (edge.column, edge.level),
                arrowprops={
                    **{"arrowstyle": "->", "shrinkA": 13, "shrinkB": 13, "lw": 1.2},
                    **{"color": _color(edge, node), "alpha": 0.15 + 0.85 * share},
                    "linestyle": (0, (3, 1.5)) if edge.conv else "solid",
                    # Edges along a level would lie on each other.
                    "connectionstyle": f"arc3,rad={0.3 / max(node[1] - edge.column, 1) - 0.3}",
                },
            )
            arrow.arrow_patch.set_gid(edge_id(node, edge))
    for level, column in nodes:
        axes.text(
            column, level, f"{level},{column}", ha="center", va="center", size=8,
            bbox={"boxstyle": "circle,pad=.4", "fc": "white", "ec": "black"},
        )  # fmt: skip
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(depth - 0.5, -0.9))
    axes.axis("off")
    kind = path.suffix[1:]
    # The same table gives the same bytes.
    metadata = {"Date": None, "Creator": None} if kind == "svg" else None
    with matplotlib.rc_context(_STYLE), atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=150, facecolor="white", metadata=metadata)


def edge_id(node: Node, edge: Edge) -> str:
    """Return the id of an edge in an SVG, such as ``edge-1,0-0,1`` or ``edge-2,0-0,2-f``."""
    source = f"{edge.level},{edge.column}"
    return f"edge-{source}-{node[0]},{node[1]}{'-f' if edge.conv else ''}"


def _color(edge: Edge, node: Node) -> str:
    if edge.level == node[0]:
        return "black"
    return "tab:blue" if edge.level > node[0] else "tab:orange"
