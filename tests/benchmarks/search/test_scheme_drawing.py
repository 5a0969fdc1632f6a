"""The picture of a scheme has an arrow for each edge of its table."""

import re

import pytest
from PIL import Image

from benchmarks.search.scheme_drawing import draw_grid, edge_id
from unet_sharp_det.skip_schemes import Edge, build_table, scheme_names


def drawn(path):
    """The ids of the arrows in an SVG."""
    return re.findall(r'id="(edge-[^"]*)"', path.read_text())


@pytest.mark.parametrize("scheme", scheme_names())
def test_every_edge_is_an_arrow(tmp_path, scheme):
    table = build_table(scheme, 4)
    draw_grid(tmp_path / "grid.svg", table, 4)
    ids = [edge_id(node, edge) for node, edges in table.items() for edge in edges]
    assert sorted(drawn(tmp_path / "grid.svg")) == sorted(ids)


def test_an_id_tells_source_target_and_convolution():
    assert edge_id((0, 2), Edge(2, 0, conv=True)) == "edge-2,0-0,2-f"


def test_the_same_table_gives_the_same_bytes(tmp_path):
    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for file in files:
        draw_grid(file, build_table("sharp_bi", 3), 3)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_weights_make_arrows_darker(tmp_path):
    """A picture with a weak edge has fewer dark pixels than one in which all edges are alike."""
    table = build_table("fpn", 2)
    weights = {(node, edge.source): 1.0 for node, edges in table.items() for edge in edges}
    weights[(0, 1), (1, 0)] = 0.0
    dark = []
    for file, given in (("plain.png", None), ("weak.png", weights)):
        draw_grid(tmp_path / file, table, 2, given)
        dark.append(sum(Image.open(tmp_path / file).convert("L").histogram()[:128]))
    assert dark[1] < dark[0]
