"""Search a skip scheme: train the full grid, drop the edges that matter least, train what is left.

tools/search_scheme.py CONFIG --budget 3.0 [KEY VALUE ...]

CONFIG is of a detector with a skip neck. Three steps, each of which is skipped if it was done:
1. The neck with every edge that a table may have, residual, is trained by CONFIG, with a gate on
   each edge (OUTPUT/full).
2. The edges that matter least for what they cost are dropped, until the backbone with its neck
   takes at most the budget for an image of 256 x 256. What is left is written as a scheme:
   OUTPUT/searched.py, which registers and trains it, and a picture, OUTPUT/searched.png.
3. FPN and that scheme are trained with three seeds (OUTPUT/runs) and compared.
Call it again to go on after a stop. Exit status: as of tools/run_experiments.py.
"""

import argparse
import importlib.util
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from detectron2.config import CfgNode
from detectron2.utils.logger import setup_logger

from benchmarks.experiments.cost import SIZE, network_cost
from benchmarks.experiments.experiment import Experiment
from benchmarks.experiments.results import read_results
from benchmarks.experiments.scheduler import Scheduler, exit_status
from benchmarks.experiments.table import format_tables
from benchmarks.measure import multiply_adds
from benchmarks.search.drop import check_budget, drop_edges
from benchmarks.search.gated_grid import GATED_BACKBONE, GatedGrid
from benchmarks.search.scheme_drawing import draw_grid
from benchmarks.search.scheme_file import equations, write_scheme
from unet_sharp_det import SkipGrid
from unet_sharp_det.checkpoints.trained_model import build_on_meta
from unet_sharp_det.checkpoints.weight_files import read_weights
from unet_sharp_det.cli.train import parse_args as parse_training
from unet_sharp_det.config import find_config, setup_cfg
from unet_sharp_det.errors import ConfigError
from unet_sharp_det.files import write_text
from unet_sharp_det.skip_schemes import Table
from unet_sharp_det.training import run_training

NAME = "searched"
_SKIP_BACKBONE = "build_skip_fpn_backbone"
_FULL = ["MODEL.FPN.SKIP_SCHEME", "full", "MODEL.FPN.SKIP_FUSE", "residual"]
_GATED = ["MODEL.BACKBONE.NAME", GATED_BACKBONE, *_FULL]


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("config", metavar="CONFIG")
    add("--budget", type=float, required=True, metavar="GMAC", help="of the backbone with its neck")
    add("--output", type=Path, default=Path("output", "search"), help="folder (output/search)")
    add("--jobs", type=int, help="processes at once (default: one per GPU, else 1)")
    add("opts", nargs="*", metavar="KEY VALUE", help="of the config")
    return parser.parse_intermixed_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    setup_logger(name="unet_sharp_det")
    setup_logger(name="benchmarks")
    config = str(Path(find_config(args.config)).resolve())
    neck = setup_cfg(config, args.opts).MODEL.BACKBONE.NAME
    if neck != _SKIP_BACKBONE:
        raise ConfigError(f"{config}: its backbone is {neck}. Give one of {_SKIP_BACKBONE}.")
    cfg = setup_cfg(config, [*args.opts, *_GATED])
    file = args.output / f"{NAME}.py"
    args.output.mkdir(parents=True, exist_ok=True)
    _write_experiment(file.with_suffix(".yaml"), config, args.opts)  # Finds mistakes in time.
    if not file.is_file():
        grid, gmac = build_on_meta(cfg).backbone.grid, gmac_of_table(cfg)
        check_budget(grid.table, len(grid.strides), gmac, args.budget)
        weights = _train_full(config, args.opts, args.output / "full")
        _write_searched(file, grid, gmac, weights, args)
    _register(file)
    experiment = _write_experiment(file.with_suffix(".yaml"), config, args.opts, NAME)
    folder = args.output / "runs"
    counts = Scheduler(experiment, folder, file, jobs=args.jobs).run()
    results = read_results(experiment, folder, args.output / "results")
    if results:
        costs = {run.name: network_cost(run.evaluated_cfg) for run in experiment.runs}
        command = shlex.join(["python", "tools/search_scheme.py", *sys.argv[1:]])
        print(format_tables(experiment, results, costs, command))
    return exit_status(counts)


def _train_full(config: str, opts: list[str], folder: Path) -> Path:
    """Train the gated grid, or go on with it, and return its weights."""
    weights = folder / "model_final.pth"
    if not weights.is_file():
        options = [*opts, *_GATED, "SEED", "0", "DATALOADER.REPLAYABLE", "True"]
        options += ["DATASETS.TEST", "()", "OUTPUT_DIR", str(folder)]
        run_training(parse_training(["--config-file", config, "--resume", *options]))
    return weights


def _write_searched(
    file: Path,
    grid: GatedGrid,
    gmac: Callable[[Table], float],
    weights: Path,
    args: argparse.Namespace,
) -> None:
    model = read_weights(str(weights))["model"]
    found = model["backbone.grid.importance"].tolist()
    importance = dict(zip(grid.links, found, strict=True))
    depth = len(grid.strides)
    table = drop_edges(grid.table, depth, importance, gmac, args.budget)
    edges = sum(map(len, table.values()))
    origin = f"{edges} of {len(grid.links)} edges, searched by {Path(args.config).name}"
    write_scheme(file, table, f"{origin} with a budget of {args.budget:g} GMAC.")
    draw_grid(file.with_suffix(".png"), table, depth, importance)
    print("\n".join(equations(table)), f"{origin}: {file}, {file.with_suffix('.png')}", sep="\n")


def gmac_of_table(cfg: CfgNode) -> Callable[[Table], float]:
    """Return a function from a table to 1e9 multiply-adds of the backbone and its neck with it.

    Args:
        cfg: of a detector whose neck runs some other table in the same way.
    """
    grid = build_on_meta(cfg).backbone.grid
    widths = [cfg.MODEL.FPN.OUT_CHANNELS] * len(grid.strides)
    with torch.device("meta"):
        maps = [torch.zeros(1, widths[0], -(-SIZE // s), -(-SIZE // s)) for s in grid.strides]

    def of_grid(table: Table) -> float:
        with torch.device("meta"):
            run = SkipGrid(table, widths, grid.options, strides=grid.strides)
        return multiply_adds(lambda: run(maps)) / 1e9

    rest = network_cost(cfg).features_gmac - of_grid(grid.table)
    return lambda table: rest + of_grid(table)


def _write_experiment(path: Path, config: str, opts: list[str], *schemes: str) -> Experiment:
    """Write and check the experiment of FPN and residual schemes."""
    runs = {"fpn": {"MODEL.FPN.SKIP_SCHEME": "fpn"}}
    for name in schemes:
        runs[name] = {"MODEL.FPN.SKIP_SCHEME": name, "MODEL.FPN.SKIP_FUSE": "residual"}
    content = {
        "description": "FPN, and the scheme that the search has found.",
        "seeds": [0, 1, 2],
        "opts": dict(zip(opts[::2], opts[1::2], strict=True)),
        "runs": {name: {"config": config, "opts": own} for name, own in runs.items()},
    }
    write_text(path, yaml.safe_dump(content, sort_keys=False))
    return Experiment.load(path)


def _register(file: Path) -> None:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
