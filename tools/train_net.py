#!/usr/bin/env python
"""Train or evaluate a detector or a semantic network from a YAML config or a LazyConfig.

One machine:        tools/train_net.py --config-file C.yaml --num-gpus 2 OUTPUT_DIR out
torchrun:           torchrun --nproc-per-node 2 tools/train_net.py --config-file C.yaml
Go on after a stop: tools/train_net.py --config-file C.yaml --resume
Stop at once:       kill PID (SIGTERM) saves a checkpoint after the iteration and exits with 75
Evaluate only:      tools/train_net.py --config-file C.yaml --eval-only MODEL.WEIGHTS model.pth
... pruned to L_2:  the same with TEST.PRUNE_TO_LEVEL 2 MODEL.SEM_SEG_HEAD.INFERENCE fast; its
                    results go to OUTPUT_DIR/L2
LazyConfig:         tools/train_net.py --config-file C.py train.output_dir=out; the rest is the same

A LazyConfig is a Python program, which this tool runs: read a stranger's before you give it here.
"""

if __name__ == "__main__":
    import _start  # noqa: F401

import os

from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from unet_sharp_det.checkpoints.weight_files import add_trust_argument
from unet_sharp_det.errors import run_cli
from unet_sharp_det.modeling.pruning import prune_config
from unet_sharp_det.training import (
    NucleiTrainer,
    StopOnSignal,
    exit_on_sigterm,
    fall_back_to_cpu,
    launch,
    read_config,
    write_device_memory,
)


def setup(args) -> tuple[CfgNode, type[NucleiTrainer]]:
    cfg, trainer_class = read_config(args.config_file, args.opts)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="unet_sharp_det")
    fall_back_to_cpu(cfg)
    level = cfg.TEST.PRUNE_TO_LEVEL
    if args.eval_only and level:
        cfg = prune_config(cfg, level, cfg.MODEL.SEM_SEG_HEAD.INFERENCE)
        cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, f"L{level}")
    cfg.freeze()
    default_setup(trainer_class.lazy or cfg, args)
    return cfg, trainer_class


def main(args) -> None:
    exit_on_sigterm()
    cfg, trainer_class = setup(args)
    if args.eval_only:
        trainer_class.test(cfg, trainer_class.build_trained_model(cfg, args.trust_pickle))
        return
    trainer = trainer_class(cfg, trust_pickle=args.trust_pickle)
    trainer.register_hooks([StopOnSignal(trainer.checkpointer)])
    trainer.resume_or_load(resume=args.resume)
    try:
        trainer.train()
    finally:
        if comm.is_main_process():
            write_device_memory(cfg.OUTPUT_DIR, resumed=args.resume)


def cli() -> int:
    parser = default_argument_parser(epilog=__doc__)
    add_trust_argument(parser)
    args = parser.parse_args()
    cfg, _ = read_config(args.config_file, args.opts)
    launch(main, args, cfg.MODEL.DEVICE)
    return 0


if __name__ == "__main__":
    run_cli(cli)
