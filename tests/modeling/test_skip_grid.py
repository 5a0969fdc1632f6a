"""The interpreter: against hand-written networks, in 2D and 3D, and its options."""

import pytest
import torch
from oracles import ORACLES, Weights
from torch import nn

from unet_sharp_det import GridOptions, SkipGrid
from unet_sharp_det.errors import ConfigError, SchemeError
from unet_sharp_det.skip_schemes import build_table, prune, scheme_names

CHANNELS = [5, 6, 7, 8]


def encoder_maps(size, channels=CHANNELS, batch=2, rounding=1, seed=0):
    """Maps that halve from level to level, rounding up (as strided convolutions do) or down."""
    torch.manual_seed(seed)
    maps = []
    for width in channels:
        maps.append(torch.randn(batch, width, *size))
        size = [(n + rounding) // 2 for n in size]
    return maps


@pytest.mark.parametrize("size", [(32, 48), (37, 51)], ids=["even", "odd"])
@pytest.mark.parametrize("edge_order", ["conv_up", "up_conv"])
@pytest.mark.parametrize("scheme", ORACLES)
def test_equals_the_network_written_by_hand(scheme, edge_order, size):
    grid = SkipGrid(
        build_table(scheme, 4), CHANNELS, GridOptions(4, edge_channels=3, edge_order=edge_order)
    )
    maps = encoder_maps(size)
    expected = ORACLES[scheme](maps, Weights(grid.state_dict(), edge_order))
    found = grid(maps)
    assert [tuple(x.shape) for x in found] == [tuple(x.shape) for x in expected]
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("edge_order", ["conv_up", "up_conv"])
@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("scheme", scheme_names())
def test_torchscript(scheme, dim, edge_order):
    torch.manual_seed(0)
    grid = SkipGrid(
        build_table(scheme, 3), CHANNELS[:3], GridOptions(4, dim=dim, edge_order=edge_order)
    )
    scripted = torch.jit.script(grid)
    maps = encoder_maps((21, 30, 9)[:dim], CHANNELS[:3])
    for expected, found in zip(grid(maps), scripted(maps), strict=True):
        # A script upsamples before it convolves where up_conv would not, to save time.
        atol = 0 if edge_order == "conv_up" else 1e-5
        assert torch.allclose(found, expected, rtol=0, atol=atol)


def test_scripting_leaves_the_grid_as_it_is():
    grid = SkipGrid(build_table("unetsharp", 3), [4, 4, 4], GridOptions(4, checkpoint=True))
    scripted = torch.jit.script(grid)
    assert type(grid) is SkipGrid
    assert all(
        scripted.state_dict()[k].data_ptr() == v.data_ptr() for k, v in grid.state_dict().items()
    )


@pytest.mark.parametrize("rounding", [0, 1], ids=["floor", "ceil"])
@pytest.mark.parametrize("scheme", scheme_names())
def test_outputs_have_their_level_s_size(scheme, rounding):
    maps = encoder_maps((45, 83), rounding=rounding)
    table = build_table(scheme, 4)
    outputs = SkipGrid(table, CHANNELS, GridOptions([9, 10, 11, 12]))(maps)
    assert [x.shape[2:] for x in outputs] == [x.shape[2:] for x in maps]
    coarsest = 12 if any(level == 3 for level, _ in table) else CHANNELS[3]
    assert [x.shape[1] for x in outputs] == [9, 10, 11, coarsest]


@pytest.mark.parametrize("norm", ["", "BN", "GN"])
@pytest.mark.parametrize("scheme", scheme_names())
def test_three_dimensions(scheme, norm):
    maps = encoder_maps((9, 16, 20), channels=[4, 4, 4])
    grid = SkipGrid(
        build_table(scheme, 3), [4, 4, 4], GridOptions(32, edge_channels=32, norm=norm, dim=3)
    )
    outputs = grid(maps)
    assert [x.shape[2:] for x in outputs] == [x.shape[2:] for x in maps]
    sum(x.square().mean() for x in outputs).backward()
    assert all(p.grad is not None for p in grid.parameters())
    assert any(isinstance(m, nn.Conv3d) for m in grid.modules())


def test_weights_of_a_fusion_are_its_shares():
    """Fast normalised fusion (Tan et al. 2020, Sec. 3.3): w1 / (w1 + w2 + .0001), w at least 0."""
    options = GridOptions(4, fuse="weighted", node_convs=0, interpolation="nearest")
    grid = SkipGrid(build_table("fpn", 2), [4, 4], options)
    fine, coarse = torch.full((1, 4, 4, 4), 3.0), torch.full((1, 4, 2, 2), 7.0)
    for weights, expected in [((1.0, 1.0), 5.0), ((1.0, 3.0), 6.0), ((2.0, -1.0), 3.0)]:
        grid.weights["0_1"].data = torch.tensor(weights)
        found = grid([fine, coarse])[0]
        assert torch.allclose(found, torch.full_like(found, expected), rtol=1e-3)


@pytest.mark.parametrize("rounding", [0, 1], ids=["floor", "ceil"])
@pytest.mark.parametrize("size", [(40, 48, 24), (45, 83, 31)])
@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("scheme", ["pafpn", "unet3p", "sharp_bi"])
def test_an_edge_may_stride_down(scheme, dim, size, rounding):
    table = build_table(scheme, 4)
    grid = SkipGrid(table, [4] * 4, GridOptions(4, edge_down="stride", dim=dim))
    maps = encoder_maps(size[:dim], [4] * 4, rounding=rounding)
    assert [x.shape[2:] for x in grid(maps)] == [x.shape[2:] for x in maps]


def test_a_strided_edge_is_a_convolution_of_stride_2():
    options = GridOptions(4, fuse="sum", node_convs=0, edge_channels=None, edge_down="stride")
    grid = SkipGrid(build_table("pafpn", 2), [4, 4], options)
    fine, coarse = encoder_maps((16, 24), [4, 4])
    first = fine + torch.nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear")
    (conv,) = [m for m in grid.edges.modules() if isinstance(m, nn.Conv2d)]
    strided = nn.Conv2d(4, 4, 3, stride=2, padding=1)
    strided.load_state_dict(conv.state_dict())
    assert torch.allclose(grid([fine, coarse])[1], coarse + strided(first).relu(), atol=1e-5)


def test_residual_nodes_need_one_width():
    with pytest.raises(ConfigError, match="one width"):
        SkipGrid(build_table("unetpp", 4), CHANNELS, GridOptions(4, fuse="residual"))


def test_raw_edges_carry_no_parameters():
    table = build_table("unetsharp", 4)
    raw = SkipGrid(table, CHANNELS, GridOptions(4, edge="raw"))
    assert len(raw.edges) == 0
    assert raw.nodes["0_3"][0][0].in_channels == CHANNELS[0] + 3 * 4 + CHANNELS[3] + 4
    assert len(SkipGrid(table, CHANNELS, GridOptions(4)).edges) == 4


def test_a_pruned_grid_gives_the_same_value():
    table = build_table("unetsharp", 4)
    full = SkipGrid(table, CHANNELS, GridOptions(4), outputs=[(0, 2), (0, 3)]).eval()
    small = SkipGrid(prune(table, [(0, 2)]), CHANNELS[:3], GridOptions(4), outputs=[(0, 2)]).eval()
    small.load_state_dict({k: v for k, v in full.state_dict().items() if k in small.state_dict()})
    maps = encoder_maps((33, 40))
    assert torch.equal(full(maps)[0], small(maps[:3])[0])


def test_maps_are_freed_after_their_last_use():
    table = build_table("unetsharp", 4)
    grid = SkipGrid(table, CHANNELS, GridOptions(4))
    spent = [key for keys in grid._last_use.values() for key in keys]
    assert len(spent) == len(set(spent))
    everything = set(table) | {(i, 0) for i in range(4)} | set(grid.edges)
    assert set(spent) == everything - set(grid.outputs)


def test_adding_maps_of_different_width_is_explained():
    with pytest.raises(ConfigError, match="cannot add maps of"):
        SkipGrid(build_table("unetpp", 4), CHANNELS, GridOptions(4, fuse="sum"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("edge", "g"),
        ("edge_order", "upconv"),
        ("fuse", "mul"),
        ("interpolation", "cubic"),
        ("skip", "irs"),
    ],
)
def test_unknown_options_name_the_known(option, value):
    with pytest.raises(ConfigError, match="Available"):
        SkipGrid(build_table("unetpp", 4), CHANNELS, GridOptions(4, **{option: value}))


def test_sizes_that_are_not_of_their_strides_are_explained():
    grid = SkipGrid(build_table("unet3p", 3), [4, 4, 4], GridOptions(4))
    maps = [torch.zeros(1, 4, n, n) for n in (32, 30, 7)]
    with pytest.raises(SchemeError, match="must follow their strides"):
        grid(maps)


class TestIRSC:
    """The skips of SegNetr in any grid: half of the encoder's channels, but for what comes up."""

    @pytest.mark.parametrize("dim", [2, 3])
    @pytest.mark.parametrize("scheme", scheme_names())
    def test_is_the_grid_of_sliced_encoder_maps(self, scheme, dim):
        torch.manual_seed(0)
        table, channels = build_table(scheme, 3), [4, 6, 7]
        options = GridOptions(4, edge_channels=4, skip="irsc", dim=dim)
        grid = SkipGrid(table, channels, options)
        maps = encoder_maps((13, 16, 20)[:dim], channels)
        found = grid(maps)
        assert [x.shape[2:] for x in found] == [x.shape[2:] for x in maps]
        for x in maps[:2]:  # what is left out has no part in any skip
            x[:, 1::2] = 0.0
        goes_up = [e.column == 0 and node[0] < e.level < 2 for node in table for e in table[node]]
        if not any(goes_up):  # nothing of the encoder is upsampled but the last map
            assert all(torch.equal(a, b) for a, b in zip(grid(maps), found, strict=True))
        else:
            assert not torch.equal(grid(maps)[0], found[0])

    def test_the_skips_have_half_the_channels(self):
        table, channels = build_table("fpn", 3), [8, 16, 32]
        whole, half = (
            SkipGrid(table, channels, GridOptions(skip=skip)).nodes for skip in ("concat", "irsc")
        )
        widths = {
            name: (node[0][0].in_channels, half[name][0][0].in_channels)
            for name, node in whole.items()
        }
        assert widths == {"1_1": (16 + 32, 8 + 32), "0_2": (8 + 16, 4 + 16)}
