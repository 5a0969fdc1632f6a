#!/usr/bin/env python
"""Measure speed and memory as ratios: alternatives take turns in one run, medians are printed.

tools/benchmark.py necks     [--config-file C] [--size 512] [--batch 2]   each neck against FPN
tools/benchmark.py detectors [--config-file C] [--size 512] [--batch 2]   the whole detector
tools/benchmark.py unets     [--sizes 256 512] [--batch 1]      UNet# against its literal form
tools/benchmark.py counts                                 parameters beside the paper's
tools/benchmark.py pruning --config-file C --weights W [--output DIR]     L_1 .. L_D of a training
tools/benchmark.py converter SOURCE                       images/s against plain decoding
tools/benchmark.py evaluation                             mask AP against pycocotools
tools/benchmark.py measures                               measures of instances, by each program
tools/benchmark.py anchors   [--config-file C]            anchor shapes against the nuclei
tools/benchmark.py predict --weights W [--images DIR]     the Predictor against detectron2's
"""

if __name__ == "__main__":
    import _start  # noqa: F401

import argparse
import os

import torch
from detectron2.config import CfgNode

from benchmarks import (
    benchmark_anchors,
    benchmark_converter,
    benchmark_counts,
    benchmark_detectors,
    benchmark_evaluation,
    benchmark_measures,
    benchmark_necks,
    benchmark_prediction,
    benchmark_pruning,
    benchmark_unets,
)
from benchmarks.prediction import read_images
from unet_sharp_det.checkpoints.config import config_of
from unet_sharp_det.cli import add_trust_argument
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import DatasetError, run_cli
from unet_sharp_det.runtime import fall_back_to_cpu

R_50 = "configs/DSB2018-InstanceSegmentation/mask_rcnn_R_50_unetsharp.yaml"


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeats", type=positive, help="counted runs (default 5; unets, measures 3)"
    )
    tasks = parser.add_subparsers(dest="task", required=True)
    add_models(tasks)
    add_unets(tasks)
    add_counts(tasks)
    add_pruning(tasks)
    add_predict(tasks)
    add_converter(tasks)
    add_evaluation(tasks)
    args = parser.parse_args(argv)
    args.repeats = args.repeats or (3 if args.task in ("unets", "measures") else 5)
    return args


def add_models(tasks) -> None:
    for name, run in (("necks", run_models), ("detectors", run_models), ("anchors", run_anchors)):
        task = tasks.add_parser(name)
        task.add_argument("--config-file", default=R_50)
        add_images(task, size=512, batch=2)
        add_options(task)
        task.set_defaults(run=run)


def add_unets(tasks) -> None:
    task = tasks.add_parser("unets")
    sizes = {"type": positive, "nargs": "+", "default": [256, 512]}
    task.add_argument("--sizes", **sizes, help="sides of the images in pixels, a table each")
    task.add_argument("--batch", type=positive, default=1, help="number of images")
    add_repeats(task)
    task.set_defaults(run=run_unets)


def add_counts(tasks) -> None:
    tasks.add_parser("counts").set_defaults(run=lambda args: print(benchmark_counts()))


def add_pruning(tasks) -> None:
    task = tasks.add_parser("pruning")
    task.add_argument("--config-file", required=True, help="of the training")
    task.add_argument("--weights", required=True, help="its checkpoint")
    add_trust_argument(task)
    task.add_argument("--dataset", default="dsb2018_val", help="registered name, for IoU")
    add_images(task, size=256, batch=1)
    add_repeats(task)
    task.add_argument("--output", help="folder for pruning.json and pruning.png")
    add_options(task)
    task.set_defaults(run=run_pruning)


def add_predict(tasks) -> None:
    task = tasks.add_parser("predict")
    task.add_argument("--weights", required=True, help="checkpoint of a trained model")
    task.add_argument("--config-file", help="of its training (default: beside the checkpoint)")
    task.add_argument("--images", default="datasets/dsb2018/images", help="folder of images")
    task.add_argument("--variants", nargs="+", help="some of the table's rows (default: all)")
    task.add_argument("--count", type=positive, default=8, help="images to predict at most")
    add_images(task, size=256, batch=4)
    task.add_argument(
        "--threads", type=positive, nargs="+", help="numbers of CPU threads, a table each"
    )
    add_repeats(task)
    add_trust_argument(task)
    add_options(task)
    task.set_defaults(run=run_predict)


def add_converter(tasks) -> None:
    task = tasks.add_parser("converter")
    task.add_argument("source", help="a folder in Kaggle's layout")
    task.add_argument("--workers", type=int, default=None)
    task.set_defaults(run=run_converter)


def add_evaluation(tasks) -> None:
    for name, benchmark in (("evaluation", benchmark_evaluation), ("measures", benchmark_measures)):
        task = tasks.add_parser(name)
        task.add_argument("--images", type=int, default=664)
        task.add_argument("--detections", type=int, default=115, help="per image")
        add_repeats(task)
        task.set_defaults(run=run_evaluation, benchmark=benchmark)


def add_images(task, size: int, batch: int) -> None:
    task.add_argument("--size", type=positive, default=size, help="side of the images in pixels")
    task.add_argument("--batch", type=positive, default=batch, help="number of images")


def add_repeats(task) -> None:
    """Take ``--repeats`` after the task's name too."""
    task.add_argument("--repeats", type=positive, default=argparse.SUPPRESS, help="counted runs")


def add_options(task) -> None:
    task.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config options")


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def read_config(args: argparse.Namespace) -> CfgNode:
    cfg = setup_cfg(args.config_file, args.opts)
    fall_back_to_cpu(cfg)
    return cfg


def run_models(args: argparse.Namespace) -> None:
    run = benchmark_necks if args.task == "necks" else benchmark_detectors
    print(run(read_config(args), args.size, args.batch, args.repeats))


def run_anchors(args: argparse.Namespace) -> None:
    print(benchmark_anchors(read_config(args)))


def run_unets(args: argparse.Namespace) -> None:
    for size in args.sizes:
        print(benchmark_unets(size, args.batch, args.repeats), flush=True)


def run_pruning(args: argparse.Namespace) -> None:
    options = {"size": args.size, "batch": args.batch, "repeats": args.repeats}
    options |= {"output": args.output, "trust_pickle": args.trust_pickle}
    print(benchmark_pruning(read_config(args), args.weights, args.dataset, **options))


def run_predict(args: argparse.Namespace) -> None:
    images = read_images(args.images, args.size, args.count)
    cfg = config_of(args.weights, args.config_file, args.opts)
    cfg.MODEL.WEIGHTS = args.weights
    fall_back_to_cpu(cfg)
    for threads in args.threads or [torch.get_num_threads()]:
        torch.set_num_threads(threads)
        print(
            benchmark_prediction(
                cfg, images, args.batch, args.repeats, args.trust_pickle, args.variants
            ),
            flush=True,
        )


def run_converter(args: argparse.Namespace) -> None:
    if not os.path.isdir(args.source):
        raise DatasetError(f"converter: there is no folder '{args.source}'.")
    print(benchmark_converter(args.source, args.repeats, args.workers))


def run_evaluation(args: argparse.Namespace) -> None:
    print(args.benchmark(args.images, args.detections, args.repeats))


def main(argv=None) -> int:
    args = parse_args(argv)
    args.run(args)
    return 0


if __name__ == "__main__":
    run_cli(main)
