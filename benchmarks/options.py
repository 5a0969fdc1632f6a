"""What the command lines of the benchmarks share."""

import argparse

from detectron2.config import CfgNode

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.runtime import fall_back_to_cpu

R_50 = "configs/DSB2018-InstanceSegmentation/mask_rcnn_R_50_unetsharp.yaml"


def new_parser(name: str, description: str | None, repeats: int = 5) -> argparse.ArgumentParser:
    """A parser of ``python -m benchmarks NAME``; ``repeats`` is the default number of runs."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=description)
    parser.add_argument(
        "--repeats", type=positive, default=repeats, help="counted runs (default: %(default)s)"
    )
    return parser


def add_images(parser: argparse.ArgumentParser, size: int, batch: int) -> None:
    """Take ``--size`` and ``--batch``."""
    add = parser.add_argument
    add("--size", type=positive, default=size, help="side of the images (default: %(default)s)")
    add("--batch", type=positive, default=batch, help="number of images (default: %(default)s)")


def add_config(parser: argparse.ArgumentParser, **options) -> None:
    """Take ``--config-file`` and options of the config."""
    parser.add_argument("--config-file", **options)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config options")


def read_config(args: argparse.Namespace) -> CfgNode:
    """The config that :func:`add_config` was given, for the GPU if there is one."""
    cfg = setup_cfg(args.config_file, args.opts)
    fall_back_to_cpu(cfg)
    return cfg


def positive(text: str) -> int:
    """A whole number of 1 or more, as a type of argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value
