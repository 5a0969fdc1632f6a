"""The search: what gates tell, which edges go, and that the file it writes is the scheme."""

import runpy

import pytest
import torch
from torch import nn

import unet_sharp_det.skip_schemes as skip_schemes
from benchmarks.experiments.cost import network_cost
from benchmarks.search.command import NAME, gmac_of_table, main
from benchmarks.search.drop import drop_edges
from benchmarks.search.gated_grid import GATED_BACKBONE, GatedGrid, full
from benchmarks.search.scheme_file import equations, write_scheme
from unet_sharp_det import GridOptions, SkipGrid
from unet_sharp_det.config import find_config, setup_cfg
from unet_sharp_det.errors import ConfigError, SchemeError, UserError
from unet_sharp_det.skip_schemes import build_table, fpn, identity_inputs, validate_table

COMPACT = find_config("configs/DSB2018-InstanceSegmentation/compact/mask_rcnn_lite0_fpn.yaml")
GATED = ["MODEL.BACKBONE.NAME", GATED_BACKBONE, "MODEL.FPN.SKIP_FUSE", "residual"]
SUM = GridOptions(fuse="sum", node_convs=0, edge="raw", interpolation="nearest")


def maps(channels: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(2, channels, 16 >> i, 16 >> i, generator=generator) for i in range(3)]


@pytest.fixture
def registry(monkeypatch):
    """The schemes, of which those that the test registers are forgotten."""
    monkeypatch.setattr(skip_schemes, "_SCHEMES", dict(skip_schemes._SCHEMES))
    monkeypatch.setattr(skip_schemes, "_ALIASES", dict(skip_schemes._ALIASES))


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_full_has_every_edge(depth):
    table = build_table("full", depth)
    assert sum(map(len, table.values())) == depth * sum(depth * j for j in range(1, depth))
    for name in ("unetsharp", "sharp_bi"):
        for node, edges in build_table(name, depth).items():
            assert set(edges) <= set(table[node])


class TestGates:
    def test_open_gates_change_nothing(self):
        options = GridOptions(node_channels=8, fuse="residual")
        gated = GatedGrid(full(3), [4, 4, 4], options)
        plain = SkipGrid(full(3), [4, 4, 4], options)
        plain.load_state_dict(gated.state_dict(), strict=False)
        for found, wanted in zip(gated(maps()), plain(maps()), strict=True):
            torch.testing.assert_close(found, wanted)

    def test_importance_is_what_a_linear_loss_would_lose(self):
        """Where the loss is linear in a gate, the first order is all there is."""
        grid = GatedGrid(fpn(3), [4, 4, 4], SUM)

        def loss():
            return grid(maps())[0].mean()

        before = loss()
        before.backward()
        for k in range(len(grid.links)):
            with torch.no_grad():
                grid.gates[k] = 0
                lost = before - loss()
                grid.gates[k] = 1
            torch.testing.assert_close(200 * grid.importance[k], lost**2)

    def test_the_edge_that_the_target_needs_matters_most(self):
        torch.manual_seed(0)
        grid = GatedGrid(full(3), [4, 4, 4], GridOptions(node_channels=8))
        optimizer = torch.optim.Adam(grid.parameters(), 0.01)
        for _ in range(60):
            given = [torch.randn(2, 4, 16 >> i, 16 >> i) for i in range(3)]
            target = nn.functional.interpolate(given[1][:, :1], scale_factor=2)
            loss = nn.functional.mse_loss(grid(given)[0][:, :1], target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        matter = dict(zip(grid.links, grid.importance.tolist(), strict=True))
        of_output = {source: v for (node, source), v in matter.items() if node == (0, 2)}
        from_target = {source: v for source, v in of_output.items() if source[0] == 1}
        assert max(of_output, key=of_output.get) in from_target


class TestDropping:
    def costs(self, table) -> float:
        """An edge of the finest level costs 16, of the next 4, ..."""
        return sum(4.0 ** (2 - level) * len(edges) for (level, _), edges in table.items())

    def importance(self, **changed) -> dict:
        links = [(node, edge.source) for node, edges in full(3).items() for edge in edges]
        return dict.fromkeys(links, 1.0) | changed

    def test_budget_that_all_edges_keep(self):
        everything = self.costs(full(3))
        assert drop_edges(full(3), 3, self.importance(), self.costs, everything) == full(3)

    def test_the_least_worth_goes_first(self):
        useless = ((1, 2), (0, 1))
        importance = self.importance() | {useless: 0.0}
        table = drop_edges(full(3), 3, importance, self.costs, self.costs(full(3)) - 1)
        gone = [
            (node, edge.source)
            for node, edges in full(3).items()
            for edge in edges
            if edge not in table[node]
        ]
        assert gone == [useless]

    def test_equally_important_edges_go_by_their_cost(self):
        table = drop_edges(full(3), 3, self.importance(), self.costs, self.costs(full(3)) - 16)
        assert all(table[node] == edges for node, edges in full(3).items() if node[0] > 0)

    def test_what_fpn_adds_stays(self):
        least = drop_edges(full(3), 3, self.importance(), self.costs, 60)
        assert self.costs(least) <= 60
        validate_table(least, 3, [(i, 2) for i in range(3)])
        for node, edges in least.items():
            assert identity_inputs(node, edges) == identity_inputs(node, full(3)[node])

    def test_too_small_a_budget(self):
        with pytest.raises(SchemeError, match="budget is 5 GMAC, but FPN's own edges cost"):
            drop_edges(full(3), 3, self.importance(), self.costs, 5)


def test_cost_is_the_experiments_cost():
    """FPN's table in the place of the full one costs what the neck of FPN's scheme does."""
    full_cfg = setup_cfg(COMPACT, [*GATED, "MODEL.FPN.SKIP_SCHEME", "full"])
    fpn_cfg = setup_cfg(COMPACT, ["MODEL.FPN.SKIP_FUSE", "residual"])
    found = gmac_of_table(full_cfg)(build_table("fpn", 4))
    assert found == pytest.approx(network_cost(fpn_cfg).features_gmac)


class TestFile:
    def test_registers_the_table(self, tmp_path, registry):
        file, table = tmp_path / "found.py", build_table("unetsharp", 3)
        write_scheme(file, table, "A test.")
        runpy.run_path(str(file))
        assert build_table("found", 3) == table

    def test_equations(self):
        assert equations(build_table("#", 3))[-1] == (
            "X[0,2] = H( X[0,0], X[0,1], U(X[1,1]), f(U(X[2,0])) )"
        )


@pytest.mark.parametrize(
    ("budget", "opts", "message"),
    [
        ("2", [], "budget is 2 GMAC, but FPN's own edges cost 2.393"),
        ("9", ["SOLVER.STEPZ", "3"], "STEPZ.*Did you mean 'SOLVER.STEPS'"),
        ("9", ["SEED", "3"], "SEED is set by the runner"),
    ],
)
def test_mistakes_are_found_before_the_training(tmp_path, environment, budget, opts, message):
    command = [COMPACT, "--budget", budget, "--output", str(tmp_path / NAME), *opts]
    with pytest.raises(UserError, match=message):
        main(command)
    assert not (tmp_path / NAME / "full").exists()


def test_needs_a_skip_neck(tmp_path):
    config = tmp_path / "resnet.yaml"
    config.write_text("MODEL: {BACKBONE: {NAME: build_resnet_fpn_backbone}}")
    with pytest.raises(ConfigError, match="its backbone is build_resnet_fpn_backbone. Give one"):
        main([str(config), "--budget", "3", "--output", str(tmp_path / NAME)])
