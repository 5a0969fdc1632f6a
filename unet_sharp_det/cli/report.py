"""Compare runs on the same images in one HTML file, which needs neither network nor JavaScript.

unet-sharp-det report RUN [RUN ...] --output report.html

A RUN is the OUTPUT_DIR of unet-sharp-det train, or a folder that unet-sharp-det evaluate wrote. Its
evaluation is repeated from its files. Differences are to the first run.
"""

import argparse

from ..evaluation.evaluate_files import AP_SAMPLES
from ..evaluation.instances.results import SAMPLES
from ..report import write_report
from ..report.grid import GRID
from ..report.page import WORST
from . import command_parser


def parse_args(argv=None) -> argparse.Namespace:
    parser = command_parser("report", __doc__)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="folder of a run")
    add("--output", default="report.html", metavar="F.html", help="default: report.html")
    add("--labels", nargs="+", help="a name per run; default: the folder's")
    add("--dataset", help="of runs that were evaluated on several data sets")
    add("--worst", type=int, default=WORST, help=f"number of images to draw (default: {WORST})")
    add(
        "--grid",
        nargs="+",
        default=GRID,
        metavar="N|ID",
        help="images whose right and wrong pixels are shown for all runs: one number N, those on "
        "which the runs differ most (default: 4), or image ids or stems of file names",
    )
    add("--pruning", nargs="+", default=(), metavar="F.json", help="by tools/benchmark.py pruning")
    add("--samples", type=int, default=SAMPLES, help=f"of the bootstrap (default: {SAMPLES})")
    add("--ap-samples", type=int, default=AP_SAMPLES, help=f"of COCO's AP (default: {AP_SAMPLES})")
    add("--title", help="of the page")
    add("--figures", metavar="DIR", help="write each figure as PNG and SVG too, for a paper")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = vars(parse_args(argv))
    args["figures_folder"] = args.pop("figures")
    write_report(**args)
    print(args["output"])
    return 0
