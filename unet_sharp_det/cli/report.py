"""Compare runs on the same images in one HTML file, which needs neither network nor JavaScript.

unet-sharp-det report RUN [RUN ...] --output report.html

A RUN is the OUTPUT_DIR of unet-sharp-det train, or a folder that unet-sharp-det evaluate wrote. Its
evaluation is repeated from its files. Differences are to the first run. Runs whose folders
differ in the seed alone (fpn/seed0 fpn/seed1, or fpn_seed0 fpn_seed1) are shown by their mean.
"""

import argparse

from .. import report
from . import command_parser


def parse_args(argv=None) -> argparse.Namespace:
    # Options that are not given are left to the defaults of write_report.
    parser = command_parser("report", __doc__, argument_default=argparse.SUPPRESS)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="folder of a run")
    add("--output", default="report.html", metavar="F.html", help="default: report.html")
    add(
        "--labels",
        nargs="+",
        help="a name per run, equal ones for seeds; default: what differs in the folders",
    )
    add("--dataset", help="of runs that were evaluated on several data sets")
    add("--worst", type=int, help="number of images to draw (default: 10)")
    add(
        "--grid",
        nargs="+",
        metavar="N|ID",
        help="images whose right and wrong pixels are shown for all runs: one number N, those on "
        "which the runs differ most (default: 4), or image ids or stems of file names",
    )
    add("--pruning", nargs="+", metavar="F.json", help="by benchmarks/pruning.py")
    add("--samples", type=int, help="of the bootstrap (default: 1000)")
    add("--ap-samples", type=int, help="of COCO's AP (default: 200)")
    add("--title", help="of the page")
    add("--full", action="store_true", help="unfold all sections, as for printing")
    figures = "write each figure as PNG and SVG too, for a paper"
    add("--figures", dest="figures_folder", metavar="DIR", help=figures)
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    report.write_report(**vars(args))
    print(args.output)
    return 0
