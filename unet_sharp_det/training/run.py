"""One training or evaluation, as a config and the command line ask for it."""

import os

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..checkpoints.trained_model import load_trained_model
from ..modeling.pruning import prune_config
from .launch import launch
from .resources import write_device_memory
from .setup import fall_back_to_cpu, setup_cfg
from .stopping import StopOnSignal, exit_on_sigterm
from .trainer import NucleiTrainer


def run_training(args) -> None:
    """Start the workers that ``args`` asks for, and train or evaluate in them."""
    launch(_work, args, setup_cfg(args.config_file, args.opts).MODEL.DEVICE)


def _work(args) -> None:
    exit_on_sigterm()
    cfg = _setup(args)
    if args.eval_only:
        NucleiTrainer.test(cfg, load_trained_model(cfg, args.trust_pickle).model)
        return
    trainer = NucleiTrainer(cfg, trust_pickle=args.trust_pickle)
    trainer.register_hooks([StopOnSignal(trainer.checkpointer)])
    trainer.resume_or_load(resume=args.resume)
    try:
        trainer.train()
    finally:
        if comm.is_main_process():
            write_device_memory(cfg.OUTPUT_DIR, resumed=args.resume)


def _setup(args) -> CfgNode:
    cfg = setup_cfg(args.config_file, args.opts)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="unet_sharp_det")
    fall_back_to_cpu(cfg)
    level = cfg.TEST.PRUNE_TO_LEVEL
    if args.eval_only and level:
        cfg = prune_config(cfg, level, cfg.MODEL.SEM_SEG_HEAD.INFERENCE)
        cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, f"L{level}")
    cfg.freeze()
    default_setup(cfg, args)
    return cfg
