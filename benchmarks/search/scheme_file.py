"""A table as a Python file that registers and trains it, and as a picture."""

import math
from pathlib import Path

from unet_sharp_det.files import atomic_path, write_text
from unet_sharp_det.report.drawing import new_figure
from unet_sharp_det.skip_schemes import Edge, Node, Table, node_name

_FILE = '''\
"""{origin}

Train it:
python {file} --config-file CONFIG MODEL.FPN.SKIP_SCHEME {name} MODEL.FPN.SKIP_FUSE residual
"""

from unet_sharp_det.cli import main
from unet_sharp_det.skip_schemes import Edge, Table, register_scheme


@register_scheme("{name}")
def {name}(depth: int) -> Table:
    """{equations}
    """
    return {{
{rows}
    }}


if __name__ == "__main__":
    main("train")
'''


def write_scheme(path: Path, table: Table, origin: str) -> None:
    """Write a file that registers the table by the file's name, and trains as ``train_net.py``.

    Args:
        path: ``<name>.py``.
        origin: a sentence on where the table comes from.
    """
    rows = [
        f"        {node}: [{', '.join(map(_edge_code, edges))}]," for node, edges in table.items()
    ]
    text = _FILE.format(
        origin=origin,
        file=path.name,
        name=path.stem,
        equations="\n    ".join(equations(table)),
        rows="\n".join(rows),
    )
    write_text(path, text)


def equations(table: Table) -> list[str]:
    """Return ``X[i,j] = H( ... )`` of each node, U what goes up in size and P what is pooled."""
    return [
        f"{node_name(node)} = H( {', '.join(_term(edge, node) for edge in edges)} )"
        for node, edges in table.items()
    ]


def draw_grid(path: Path, table: Table, depth: int, weights: dict | None = None) -> None:
    """Draw the nodes, levels downwards and columns to the right, and an arrow for each edge.

    Edges along a level are black, upsampling ones blue, pooling ones orange.

    Args:
        path: of a PNG or SVG.
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
            axes.annotate(
                "",
                (node[1], node[0]),
                (edge.column, edge.level),
                arrowprops={
                    **{"arrowstyle": "->", "shrinkA": 13, "shrinkB": 13, "lw": 1.2},
                    **{"color": _color(edge, node), "alpha": 0.15 + 0.85 * share},
                    # Edges along a level would lie on each other.
                    "connectionstyle": f"arc3,rad={-0.18 * (node[1] - edge.column - 1)}",
                },
            )
    for level, column in nodes:
        axes.text(
            column, level, f"{level},{column}", ha="center", va="center", size=8,
            bbox={"boxstyle": "circle,pad=.4", "fc": "white", "ec": "black"},
        )  # fmt: skip
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(depth - 0.5, -0.9))
    axes.axis("off")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=150)


def _edge_code(edge: Edge) -> str:
    return f"Edge({edge.level}, {edge.column}{', conv=True' if edge.conv else ''})"


def _term(edge: Edge, node: Node) -> str:
    term = node_name(edge.source)
    if edge.level != node[0]:
        term = f"{'U' if edge.level > node[0] else 'P'}({term})"
    return f"f({term})" if edge.conv else term


def _color(edge: Edge, node: Node) -> str:
    if edge.level == node[0]:
        return "black"
    return "tab:blue" if edge.level > node[0] else "tab:orange"
