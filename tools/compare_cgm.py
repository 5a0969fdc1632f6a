#!/usr/bin/env python
"""Measure what CGM (UNet#, Sec. 2.3) does on images without nuclei: trained with it and without.

tools/compare_cgm.py --data datasets --output output/cgm

The images of dsb2018_train and dsb2018_val are cut into tiles, many of which hold no nucleus. For
each seed two networks are trained on them that differ in CGM alone. A table is printed: false
positives in the empty tiles, IoU in the others; OUTPUT/cgm.json holds the same.
"""

if __name__ == "__main__":
    import _start  # noqa: F401

import argparse
from pathlib import Path

from detectron2.utils.logger import setup_logger

from benchmarks.cgm import cgm_config, compare_cgm
from unet_sharp_det.errors import run_cli

CONFIG = "configs/DSB2018-SemanticSegmentation/compact/unetsharp_ds.yaml"


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config-file", default=CONFIG, help=f"of the network without CGM (default: {CONFIG})"
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder that holds dsb2018/, as converted"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument(
        "--iterations", type=int, default=350, help="of each training (default: 350)"
    )
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE pairs of the config"
    )
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    cfg = cgm_config(args.config_file, args.iterations, args.opts)
    for name in ("detectron2", "unet_sharp_det"):
        setup_logger(str(args.output), name=name)
    print(compare_cgm(cfg, args.data, args.output, args.seeds))
    return 0


if __name__ == "__main__":
    run_cli(main)
