#!/usr/bin/env python
"""Compare runs on the same images in one HTML file, which needs no network.

tools/report.py RUN [RUN ...] --output report.html

A RUN is the OUTPUT_DIR of tools/train_net.py, or a folder that tools/evaluate.py wrote. Its
evaluation is repeated from its files. Differences are to the first run.
"""

if __name__ == "__main__":
    import _start  # noqa: F401

import argparse

from unet_sharp_det.errors import run_cli
from unet_sharp_det.evaluation.evaluate_files import AP_SAMPLES
from unet_sharp_det.evaluation.instances.results import SAMPLES
from unet_sharp_det.report import write_report
from unet_sharp_det.report.page import WORST


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="folder of a run")
    add("--output", default="report.html", metavar="F.html", help="default: report.html")
    add("--labels", nargs="+", help="a name per run; default: the folder's")
    add("--dataset", help="of runs that were evaluated on several data sets")
    add("--worst", type=int, default=WORST, help=f"number of images to draw (default: {WORST})")
    add("--samples", type=int, default=SAMPLES, help=f"of the bootstrap (default: {SAMPLES})")
    add("--ap-samples", type=int, default=AP_SAMPLES, help=f"of COCO's AP (default: {AP_SAMPLES})")
    add("--title", help="of the page")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = vars(parse_args(argv))
    write_report(**args)
    print(args["output"])
    return 0


if __name__ == "__main__":
    run_cli(main)
