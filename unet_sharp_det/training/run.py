"""One training or evaluation, as a config and the command line ask for it."""

import contextlib
import os

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..config import find_config
from ..files import only_writer
from ..modeling.pruning import prune_config
from ..runtime.device import fall_back_to_cpu
from .launch import launch
from .lazy import read_config
from .resources import write_device_memory
from .stopping import StopOnSignal, exit_on_sigterm
from .trainer import NucleiTrainer

# NFS keeps the lock of a machine that died, by default for 90 s.
_DEAD_MACHINE_S = 100


def run_training(args) -> None:
    """Start the workers that ``args`` asks for, and train or evaluate in them."""
    if args.config_file:
        args.config_file = find_config(args.config_file)  # detectron2 reads it, too.
    cfg, _ = read_config(args.config_file, args.opts)
    launch(_work, args, cfg.MODEL.DEVICE)


def _work(args) -> None:
    exit_on_sigterm()
    cfg, trainer_class = read_config(args.config_file, args.opts)
    wait_s = _DEAD_MACHINE_S if args.resume else 0
    is_writer = comm.is_main_process() and not args.eval_only
    with only_writer(cfg.OUTPUT_DIR, wait_s) if is_writer else contextlib.nullcontext():
        _train_or_evaluate(args, cfg, trainer_class)


def _train_or_evaluate(args, cfg: CfgNode, trainer_class: type[NucleiTrainer]) -> None:
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="unet_sharp_det")
    fall_back_to_cpu(cfg)
    level = cfg.TEST.PRUNE_TO_LEVEL
    if args.eval_only and level:
        cfg = prune_config(cfg, level, cfg.MODEL.SEM_SEG_HEAD.INFERENCE)
        cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, f"L{level}")
    cfg.freeze()
    default_setup(trainer_class.lazy or cfg, args)
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
