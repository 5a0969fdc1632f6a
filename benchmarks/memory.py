"""Peak memory of a training on volumes, in fp32 and bf16, and with ACTIVATION_CHECKPOINT."""

import argparse

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from benchmarks.measure import autocast, in_fresh_process, peak_memory, table
from benchmarks.options import add_config, read_config
from unet_sharp_det.training import NucleiTrainer

# Whether a row has ACTIVATION_CHECKPOINT, and bf16.
ROWS = {
    "fp32": (False, False),
    "fp32, checkpoint": (True, False),
    "bf16": (False, True),
    "bf16, checkpoint": (True, True),
}


def main(argv) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    add_config(parser, default="configs/Volumes/vnetsharp.yaml")
    args = parser.parse_args(argv[1:])
    print(compare_memory(read_config(args), args.config_file))


def compare_memory(cfg: CfgNode, name: str) -> str:
    """A Markdown table of what each of :data:`ROWS` needs, each in a process of its own.

    Args:
        cfg: of a :class:`VolumeSegmentor` with one channel.
        name: of the network, for the title.
    """
    rows = [
        [row, in_fresh_process(training_memory, cfg, *options) / 1024]
        for row, options in ROWS.items()
    ]
    size = " x ".join(map(str, cfg.INPUT.VOLUME.PATCH_SIZE))
    headers = ["training", "peak GiB", "x fp32"]
    rows = [[*row, row[1] / rows[0][1]] for row in rows]
    title = f"{name}, a training of 1 x {size}, without the program and its libraries"
    return table(title, headers, rows, floatfmt=".2f")


def training_memory(cfg: CfgNode, checkpoint: bool, bf16: bool) -> float:
    """MiB that a network, its optimizer and their iterations need at the peak."""
    cfg.MODEL.SEM_SEG_HEAD.ACTIVATION_CHECKPOINT = checkpoint
    return peak_memory(lambda: _train(cfg, bf16))


def _train(cfg: CfgNode, bf16: bool) -> None:
    """Two iterations, of a random patch: the second has the optimizer's state beside it."""
    torch.manual_seed(0)
    model = build_model(cfg).train()
    optimizer = NucleiTrainer.build_optimizer(cfg, model)
    size = cfg.INPUT.VOLUME.PATCH_SIZE
    image = torch.randn(len(cfg.MODEL.PIXEL_MEAN), *size)
    patch = {"image": image, "sem_seg": torch.randint(0, 2, size)}
    for _ in range(2):
        with autocast(bf16):
            losses = model([patch])
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
