#!/usr/bin/env python
"""Draw the figures of the UNet# paper from what evaluations and benchmarks wrote.

tools/plot_results.py boxplots RUN [RUN ...] --output F.png    values per image, a box per run
tools/plot_results.py grid RUN [RUN ...] --dataset NAME --output F.png    right and wrong pixels
tools/plot_results.py pruning F.json [F.json ...] --output F.png    size, speed, IoU per level

A RUN is the OUTPUT_DIR of a training or of an evaluation. The output is a .png, .pdf or .svg file.
"""

if __name__ == "__main__":
    import _start  # noqa: F401

import argparse

from unet_sharp_det.errors import run_cli
from unet_sharp_det.evaluation.readers.run_results import METRICS
from unet_sharp_det.report.plots import plot_boxplots, plot_grid, plot_pruning


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    figures = parser.add_subparsers(dest="figure", required=True)
    boxplots = figures.add_parser("boxplots", help="distribution over the images, a box per run")
    boxplots.add_argument("--metric", choices=METRICS, default="IoU", help="default: IoU")
    boxplots.add_argument("--dataset", help="of runs with several data sets in DATASETS.TEST")
    grid = figures.add_parser("grid", help="images, ground truth, predictions of each run")
    grid.add_argument("--dataset", required=True, help="registered name, e.g. dsb2018_val")
    grid.add_argument(
        "--images",
        nargs="+",
        default=["4"],
        metavar="N|ID",
        help="one number: that many images on which the runs differ most, or the worst of one run "
        "(default: 4); or several image ids; or stems of file names",
    )
    for figure in (boxplots, grid):
        figure.add_argument("runs", nargs="+", metavar="RUN", help="OUTPUT_DIR of a run")
        figure.add_argument("--labels", nargs="+", help="a name per run; default: the folder's")
        figure.add_argument("--channel", help="semantic channel; default: mean, grid: the first")
    pruning = figures.add_parser("pruning", help="parameters, speed and IoU per pruning level")
    pruning.add_argument("files", nargs="+", metavar="F.json", help="by tools/benchmark.py pruning")
    for figure in (boxplots, grid, pruning):
        figure.add_argument("--output", required=True, help="a .png, .pdf or .svg file")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = vars(parse_args(argv))
    figure = args.pop("figure")
    if figure == "boxplots":
        print(plot_boxplots(**args)[1])
    else:
        {"grid": plot_grid, "pruning": plot_pruning}[figure](**args)
    print(args["output"])
    return 0


if __name__ == "__main__":
    run_cli(main)
