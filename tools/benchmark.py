#!/usr/bin/env python
"""Measure speed and memory as ratios: alternatives take turns in one run, medians are printed.

tools/benchmark.py necks     [--config-file C] [--size 512] [--batch 2]   each neck against FPN
tools/benchmark.py detectors [--config-file C] [--size 512] [--batch 2]   the whole detector
tools/benchmark.py converter SOURCE                       images/s against plain decoding
tools/benchmark.py evaluation                             mask AP against pycocotools
tools/benchmark.py anchors   [--config-file C]            anchor shapes against the nuclei
"""

import argparse
import os

from unet_sharp_det.benchmark import (
    benchmark_anchors,
    benchmark_converter,
    benchmark_detectors,
    benchmark_evaluation,
    benchmark_necks,
)
from unet_sharp_det.engine import fall_back_to_cpu, setup_cfg
from unet_sharp_det.errors import DatasetError, run_cli

R_50 = "configs/DSB2018-InstanceSegmentation/mask_rcnn_R_50_unetsharp.yaml"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="counted runs (default 5)")
    tasks = parser.add_subparsers(dest="task", required=True)
    for name in ("necks", "detectors", "anchors"):
        task = tasks.add_parser(name)
        task.add_argument("--config-file", default=R_50)
        task.add_argument("--size", type=int, default=512, help="side of the images in pixels")
        task.add_argument("--batch", type=int, default=2, help="number of images")
        task.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config options")
    converter = tasks.add_parser("converter")
    converter.add_argument("source", help="a folder in Kaggle's layout")
    converter.add_argument("--workers", type=int, default=None)
    evaluation = tasks.add_parser("evaluation")
    evaluation.add_argument("--images", type=int, default=664)
    evaluation.add_argument("--detections", type=int, default=115, help="per image")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    if args.task == "converter":
        if not os.path.isdir(args.source):
            raise DatasetError(f"converter: there is no folder '{args.source}'.")
        print(benchmark_converter(args.source, args.repeats, args.workers))
    elif args.task == "evaluation":
        print(benchmark_evaluation(args.images, args.detections, args.repeats))
    else:
        cfg = setup_cfg(args.config_file, args.opts)
        fall_back_to_cpu(cfg)
        if args.task == "anchors":
            print(benchmark_anchors(cfg))
        else:
            run = benchmark_necks if args.task == "necks" else benchmark_detectors
            print(run(cfg, args.size, args.batch, args.repeats))
    return 0


if __name__ == "__main__":
    run_cli(main)
