"""A table as a Python file that registers and trains it."""

from pathlib import Path

from unet_sharp_det.files import write_text
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


def _edge_code(edge: Edge) -> str:
    return f"Edge({edge.level}, {edge.column}{', conv=True' if edge.conv else ''})"


def _term(edge: Edge, node: Node) -> str:
    term = node_name(edge.source)
    if edge.level != node[0]:
        term = f"{'U' if edge.level > node[0] else 'P'}({term})"
    return f"f({term})" if edge.conv else term
