"""One training or evaluation, as a config and the command line ask for it."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..addresses import address_of
from ..config import find_config
from ..data.catalog import check_registered, median_diameter
from ..errors import UserError
from ..files import only_writer, write_text
from ..modeling.pruning import prune_config
from ..runtime.device import fall_back_to_cpu
from .launch import launch
from .lazy import read_config
from .stopping import StopOnSignal, exit_on_sigterm
from .storage import stored_run
from .trainer import NucleiTrainer, build_mapper, load_training_records

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
    place = cfg.OUTPUT_DIR
    with _output_folder(args, place) as (folder, after_save):
        cfg.OUTPUT_DIR = folder
        if trainer_class.lazy:
            trainer_class.lazy.train.output_dir = folder
        _train_or_evaluate(args, cfg, trainer_class, after_save, place)


@contextlib.contextmanager
def _output_folder(args, place: str) -> Iterator[tuple[str, Callable | None]]:
    """Yield the folder to write to, and what to do after a checkpoint."""
    wait_s = _DEAD_MACHINE_S if args.resume else 0
    if address := address_of(place):
        with stored_run(address, resume=args.resume or args.eval_only, wait_s=wait_s) as run:
            yield run
    else:
        is_writer = comm.is_main_process() and not args.eval_only
        with only_writer(place, wait_s) if is_writer else contextlib.nullcontext():
            yield place, None


def _train_or_evaluate(
    args, cfg: CfgNode, trainer_class: type[NucleiTrainer], after_save: Callable | None, place: str
) -> None:
    folder = cfg.OUTPUT_DIR
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="unet_sharp_det")
    fall_back_to_cpu(cfg)
    level, records = cfg.TEST.PRUNE_TO_LEVEL, None
    if args.eval_only and level:
        cfg = prune_config(cfg, level, cfg.MODEL.SEM_SEG_HEAD.INFERENCE)
        cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, f"L{level}")
    elif not args.eval_only and not cfg.INPUT.DIAMETER and cfg.DATASETS.TRAIN:
        check_registered(cfg.DATASETS.TRAIN, "DATASETS.TRAIN")
        records = load_training_records(cfg, build_mapper(cfg, is_train=True))
        cfg.INPUT.DIAMETER = round(median_diameter(records), 1)
    cfg.freeze()
    with kept_config(cfg.OUTPUT_DIR):
        default_setup(trainer_class.lazy or cfg, args)
        if place != folder and comm.is_main_process():  # The folder stands for an address.
            path = Path(cfg.OUTPUT_DIR, "config.yaml")
            write_text(path, path.read_text(encoding="utf-8").replace(folder, place))
        if args.eval_only:
            trainer_class.test(cfg, trainer_class.build_trained_model(cfg, args.trust_pickle))
            return
        trainer = trainer_class(cfg, trust_pickle=args.trust_pickle, records=records)
        trainer.checkpointer.after_save = after_save
        trainer.register_hooks([StopOnSignal(trainer.checkpointer)])
        trainer.resume_or_load(resume=args.resume)
    del records  # The loader has them in a form of its own.
    trainer.train()


@contextlib.contextmanager
def kept_config(folder) -> Iterator[None]:
    """Put ``config.yaml``, which the checkpoints of a former run need, back if the user's mistake
    ends this one in the block."""
    path = Path(folder, "config.yaml")
    former = path.read_text(encoding="utf-8") if path.is_file() else None
    try:
        yield
    except UserError:
        if former is not None and comm.is_main_process():
            write_text(path, former)
        raise
