"""The tables against the papers, for any depth, and what validation must catch."""

import ast
from pathlib import Path

import pytest

import unet_sharp_det.skip_schemes as skip_schemes
from unet_sharp_det.errors import SchemeError
from unet_sharp_det.skip_schemes import (
    Edge,
    ancestors,
    build_table,
    identity_inputs,
    output_nodes,
    prune,
    register_scheme,
    resolve_scheme,
    scheme_names,
    validate_table,
)

DEPTHS = range(2, 7)
TOP_DOWN = ("fpn", "unetpp", "unet3p", "unetsharp")

# UNet#, Eq. 1, all nodes of five levels: dense, level below, full-scale along the anti-diagonal.
UNETSHARP = {
    "01": ("0 0", "1 0", ""),
    "11": ("1 0", "2 0", ""),
    "21": ("2 0", "3 0", ""),
    "31": ("3 0", "4 0", ""),
    "02": ("0 0, 0 1", "1 1", "2 0"),
    "12": ("1 0, 1 1", "2 1", "3 0"),
    "22": ("2 0, 2 1", "3 1", "4 0"),
    "03": ("0 0, 0 1, 0 2", "1 2", "3 0, 2 1"),
    "13": ("1 0, 1 1, 1 2", "2 2", "4 0, 3 1"),
    "04": ("0 0, 0 1, 0 2, 0 3", "1 3", "4 0, 3 1, 2 2"),
}


def nodes_of(text: str) -> list[tuple[int, int]]:
    return [tuple(map(int, node.split())) for node in text.split(", ") if node]


def sources(edges: list[Edge]) -> set[tuple[int, int]]:
    return {edge.source for edge in edges}


def test_unetsharp_is_the_paper_node_by_node():
    table = build_table("unetsharp", 5)
    assert {f"{i}{j}" for i, j in table} == set(UNETSHARP)
    for (i, j), edges in table.items():
        dense, below, full_scale = map(nodes_of, UNETSHARP[f"{i}{j}"])
        assert [edge.source for edge in edges] == dense + below + full_scale
        assert [edge.source for edge in edges if edge.conv] == full_scale


def test_unet3p_decoder_sees_every_scale():
    table = build_table("unet3p", 5)
    assert list(table) == [(3, 1), (2, 2), (1, 3), (0, 4)]
    assert sources(table[3, 1]) == {(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)}
    assert sources(table[1, 3]) == {(0, 0), (1, 0), (2, 2), (3, 1), (4, 0)}
    assert sources(table[0, 4]) == {(0, 0), (1, 3), (2, 2), (3, 1), (4, 0)}
    assert all(edge.conv for edges in table.values() for edge in edges)


def test_fpn_is_the_plain_top_down_path():
    assert build_table("fpn", 4) == {
        (2, 1): [Edge(2, 0), Edge(3, 0)],
        (1, 2): [Edge(1, 0), Edge(2, 1)],
        (0, 3): [Edge(0, 0), Edge(1, 2)],
    }


@pytest.mark.parametrize("depth", DEPTHS)
def test_unetpp_is_unetsharp_without_the_full_scale_edges(depth):
    sharp = build_table("unetsharp", depth)
    dense = {node: [edge for edge in edges if not edge.conv] for node, edges in sharp.items()}
    assert dense == build_table("unetpp", depth)


def test_panet_and_bifpn_go_up_fpn_s_maps():
    """Liu et al. 2018, Fig. 1b: N2 = P2; Tan et al. 2020, Fig. 2d: the ends have one input less."""
    assert build_table("pafpn", 4) == build_table("fpn", 4) | {
        (1, 3): [Edge(1, 2), Edge(0, 3, conv=True)],
        (2, 2): [Edge(2, 1), Edge(1, 3, conv=True)],
        (3, 1): [Edge(3, 0), Edge(2, 2, conv=True)],
    }
    assert build_table("bifpn", 4) == build_table("fpn", 4) | {
        (1, 3): [Edge(1, 0), Edge(1, 2), Edge(0, 3)],
        (2, 2): [Edge(2, 0), Edge(2, 1), Edge(1, 3)],
        (3, 1): [Edge(3, 0), Edge(2, 2)],
    }


@pytest.mark.parametrize("depth", DEPTHS)
def test_sharp_bi_is_unetsharp_with_its_mirror_image(depth):
    """Turned upside down it is itself; without what comes down, the triangle is UNet#'s."""
    table = build_table("sharp_bi", depth)

    def mirrored(level):
        return depth - 1 - level

    for (i, j), edges in table.items():
        turned = {Edge(mirrored(e.level), e.column, e.conv) for e in table[mirrored(i), j]}
        assert set(edges) == turned
    up = {node: [e for e in edges if e.level >= node[0]] for node, edges in table.items()}
    sharp = build_table("unetsharp", depth)
    assert {n: set(up[n]) for n in sharp} == {n: set(edges) for n, edges in sharp.items()}


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("scheme", scheme_names())
def test_the_identity_path_of_every_scheme_is_fpn(scheme, depth):
    """Symbolically: a map is the set of encoder maps that are added up to it."""
    table = build_table(scheme, depth)
    values = {(level, 0): [level] for level in range(depth)}
    for node, edges in table.items():
        values[node] = sum((values[n] for n in identity_inputs(node, edges)), start=[])
    for level, node in enumerate(output_nodes(table, depth)):
        assert values[node] == list(range(level, depth))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("scheme", scheme_names())
def test_any_depth(scheme, depth):
    table = build_table(scheme, depth)
    outputs = output_nodes(table, depth)
    if scheme in TOP_DOWN:
        assert outputs == [(level, depth - 1 - level) for level in range(depth)]
    everything = ancestors(table, outputs)
    assert everything == set(table) | {(level, 0) for level in range(depth)}
    seen = {(level, 0) for level in range(depth)}
    for node, edges in table.items():
        assert sources(edges) <= seen
        seen.add(node)


@pytest.mark.parametrize(("level", "count"), [(1, 3), (2, 6), (3, 10), (4, 15)])
@pytest.mark.parametrize("scheme", ["unetpp", "unetsharp"])
def test_pruning_leaves_the_smaller_network(scheme, level, count):
    table = build_table(scheme, 5)
    pruned = prune(table, [(0, level)])
    assert len(ancestors(table, [(0, level)])) == count
    assert pruned == build_table(scheme, level + 1)
    validate_table(pruned, level + 1, [(0, level)])


def test_pruning_to_a_node_that_does_not_exist():
    with pytest.raises(SchemeError, match=r"X\[0,7\] is no node"):
        prune(build_table("unetpp", 4), [(0, 7)])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({(0, 1): [Edge(0, 0), Edge(1, 1)], (1, 1): [Edge(1, 0), Edge(0, 1)]}, "comes after it"),
        ({(0, 1): [Edge(0, 0), Edge(2, 0)]}, r"X\[2,0\], which is not defined"),
        ({(0, 2): [Edge(0, 0), Edge(1, 1)], (1, 1): [Edge(1, 0)]}, "comes after it"),
        ({(0, 1): [Edge(0, 0), Edge(1, 0), Edge(1, 0)]}, "same input twice"),
        ({(0, 1): []}, "no input"),
        ({(0, 0): [Edge(1, 0)]}, "outside the grid"),
        ({(2, 1): [Edge(1, 0)]}, "outside the grid"),
        ({(0, 1): [Edge(0, 0)], (0, 2): [Edge(0, 0)]}, r"no output depends on X\[0,1\]"),
        ({(0, 1): [Edge(1, 0)]}, r"no output depends on X\[0,0\]"),
    ],
)
def test_validation_names_the_fault(table, message):
    with pytest.raises(SchemeError, match=message):
        validate_table(table, 2, output_nodes(table, 2))


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("++", "unetpp"),
        ("+++", "unet3p"),
        ("#", "unetsharp"),
        ("UNet#", "unetsharp"),
        ("FPN", "fpn"),
    ],
)
def test_aliases(alias, name):
    assert resolve_scheme(alias) == name


@pytest.mark.parametrize("empty", [None, ""])
def test_an_unquoted_hash_is_explained(empty):
    with pytest.raises(SchemeError, match="YAML reads an unquoted # as a comment"):
        resolve_scheme(empty)


def test_unknown_scheme_names_the_nearest():
    with pytest.raises(SchemeError, match="Did you mean 'unetsharp'"):
        resolve_scheme("unetsharpp")


def test_depth_one_is_no_grid():
    with pytest.raises(SchemeError, match="at least 2 levels"):
        build_table("unetsharp", 1)


def test_names_are_taken_once(monkeypatch):
    monkeypatch.setattr(skip_schemes, "_SCHEMES", dict(skip_schemes._SCHEMES))
    monkeypatch.setattr(skip_schemes, "_ALIASES", dict(skip_schemes._ALIASES))
    with pytest.raises(SchemeError, match="taken"):
        register_scheme("unetpp")(lambda depth: {})
    with pytest.raises(SchemeError, match="taken"):
        register_scheme("mine", aliases=("#",))(lambda depth: {})
    register_scheme("mine2", aliases=("m2",))(skip_schemes.fpn)
    assert build_table("m2", 3) == build_table("fpn", 3)


def test_tables_need_no_torch():
    tree = ast.parse(Path(skip_schemes.__file__).read_text())
    imported = {
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert imported == {"collections.abc", "itertools", "typing", "errors"}


def test_scheme_module_names_who_registered_a_scheme(monkeypatch):
    def own(depth):
        return {}

    own.__module__ = "my_project.schemes"
    monkeypatch.setitem(skip_schemes._SCHEMES, "own", own)
    assert skip_schemes.scheme_module("own") == "my_project.schemes"
    assert skip_schemes.scheme_module("unetsharp") is None
    assert skip_schemes.scheme_module("unheard of") is None
