#!/usr/bin/env python
"""Cut a trained semantic network to L_k: a smaller checkpoint and its config.

tools/prune_model.py output/model_best.pth --level 2
    writes output/model_best_L2.pth and output/model_best_L2.yaml, to be used as
    tools/train_net.py --eval-only --config-file output/model_best_L2.yaml
    whose results go to output/model_best_L2/; of a .safetensors file, one with its config inside

In eval mode the output is, bit for bit, that of branch X[0,k] of the whole network (or with
--mode accurate the mean of the branches up to it). The training needs a branch there:
MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION in or all.
"""

if __name__ == "__main__":
    import _start  # noqa: F401

import argparse
from pathlib import Path

import torch
from torch import nn

from unet_sharp_det.checkpoints.trained_model import open_trained_model
from unet_sharp_det.checkpoints.weight_files import write_safetensors
from unet_sharp_det.cli import add_trust_argument
from unet_sharp_det.errors import run_cli
from unet_sharp_det.export.model_files import portable_config
from unet_sharp_det.files import atomic_path, write_text
from unet_sharp_det.modeling.pruning import cut_to_level


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="of the whole network")
    parser.add_argument("--level", type=int, required=True, help="k of L_k, from 1")
    parser.add_argument(
        "--config-file", type=Path, help="of the training (default: in or beside the checkpoint)"
    )
    parser.add_argument("--mode", default="fast", help="fast (default) or accurate")
    parser.add_argument("--output-dir", type=Path, help="default: the checkpoint's folder")
    add_trust_argument(parser)
    return parser.parse_args(argv)


def main() -> int:
    args = parse_args()
    trained = open_trained_model(
        args.checkpoint, args.config_file, device="cpu", trust_pickle=args.trust_pickle
    )
    pruned, cfg = cut_to_level(trained.model, trained.cfg, args.level, args.mode)
    folder = args.output_dir or args.checkpoint.parent
    suffix = ".safetensors" if args.checkpoint.suffix == ".safetensors" else ".pth"
    path = folder / f"{args.checkpoint.stem}_L{args.level}{suffix}"
    cfg.MODEL.WEIGHTS = str(path)
    cfg.MODEL.DEVICE = "cuda"  # or, where there is none, the CPU
    # Not the training's, whose config and results an evaluation would overwrite.
    cfg.OUTPUT_DIR = str(path.with_suffix(""))
    if suffix == ".safetensors":
        write_safetensors(path, pruned.state_dict(), portable_config(cfg).dump())
    else:
        with atomic_path(path) as temporary:
            torch.save({"model": pruned.state_dict()}, temporary)
    write_text(path.with_suffix(".yaml"), cfg.dump())
    print(f"{path} and {path.with_suffix('.yaml').name}: {count(pruned)} of {count(trained.model)}")
    return 0


def count(model: nn.Module) -> str:
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.4f} M parameters"


if __name__ == "__main__":
    run_cli(main)
