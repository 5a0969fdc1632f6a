"""Train or evaluate a detector or a semantic network by a YAML config or a LazyConfig.

One machine:        unet-sharp-det train --config-file C.yaml --num-gpus 2 OUTPUT_DIR out
torchrun:           torchrun --nproc-per-node 2 -m unet_sharp_det train --config-file C.yaml
Slurm:              unet-sharp-det train --config-file C.yaml --slurm nodes=2,gpus=8,time=60
                    (docs/CLUSTER.md); under torchrun and Slurm a training goes on by itself
Go on after a stop: unet-sharp-det train --config-file C.yaml --resume
Stop at once:       kill PID (SIGTERM) saves a checkpoint after the iteration and exits with 75
Evaluate only:      unet-sharp-det train --config-file C.yaml --eval-only MODEL.WEIGHTS model.pth
... pruned to L_2:  the same with TEST.PRUNE_TO_LEVEL 2 MODEL.SEM_SEG_HEAD.INFERENCE fast; its
                    results go to OUTPUT_DIR/L2
LazyConfig:         unet-sharp-det train --config-file C.py train.output_dir=out; all else the same

A LazyConfig is a Python program, which this command runs: read a stranger's before.
"""

import argparse
from pathlib import Path

from .. import training
from ..addresses import address_of
from . import add_trust_argument, command_parser


def parse_args(argv=None) -> argparse.Namespace:
    parser = command_parser("train", __doc__)
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="a config, or a name of the model zoo's")
    add("--resume", action="store_true", help="go on at the last checkpoint of OUTPUT_DIR")
    add("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    add("--num-gpus", type=int, default=1, help="GPUs of this machine; on a CPU, processes")
    add("--slurm", metavar="KEY=VALUE,...", help="submit a job; docs/CLUSTER.md lists the keys")
    add_trust_argument(parser)
    add(
        "opts",
        nargs=argparse.REMAINDER,
        help="KEY VALUE pairs (LazyConfig: key=value); stand last",
    )
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    if args.slurm is None:
        training.run_training(args)
        return 0
    cfg, _ = training.read_config(args.config_file, args.opts)
    logs = Path("" if address_of(cfg.OUTPUT_DIR) else cfg.OUTPUT_DIR, "slurm")
    training.submit(training.run_training, args, args.slurm, logs, per_gpu=True)
    return 0
