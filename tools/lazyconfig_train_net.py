#!/usr/bin/env python
"""Train or evaluate a detector from a LazyConfig; the command line is that of train_net.py.

tools/lazyconfig_train_net.py --config-file C.py --num-gpus 2 train.output_dir=out

A LazyConfig is a Python program, which this tool runs: read a stranger's before you give it here.
"""

if __name__ == "__main__":
    import _start  # noqa: F401

import torch
from detectron2.config import instantiate
from detectron2.engine import (
    default_argument_parser,
    default_setup,
    default_writers,
    hooks,
)
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from unet_sharp_det.checkpoints.loading import SkipCheckpointer
from unet_sharp_det.cli import add_trust_argument
from unet_sharp_det.errors import run_cli
from unet_sharp_det.training import (
    ValidationLoss,
    amp_precision,
    build_validation_hooks,
    choose_trainer,
    distribute,
    end_at_early_stop,
    explain_failure,
    load_lazy_cfg,
)
from unet_sharp_det.training.launch import launch


def main(args) -> None:
    cfg = load_lazy_cfg(args.config_file, args.opts)
    setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name="unet_sharp_det")
    default_setup(cfg, args)
    model = instantiate(cfg.model).to(cfg.train.device)
    if args.eval_only:
        checkpointer = SkipCheckpointer(model, trained=True, trust_pickle=args.trust_pickle)
        checkpointer.load(cfg.train.init_checkpoint)
        evaluate(cfg, model)
    else:
        train(cfg, model, resume=args.resume, trust_pickle=args.trust_pickle)


def evaluate(cfg: DictConfig, model: torch.nn.Module) -> dict:
    loader = instantiate(cfg.dataloader.test)
    results = inference_on_dataset(model, loader, instantiate(cfg.dataloader.evaluator))
    if comm.is_main_process():
        print_csv_format(results)
    return results


def train(
    cfg: DictConfig, model: torch.nn.Module, resume: bool, trust_pickle: bool = False
) -> None:
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    trainer_class = choose_trainer(amp_precision(cfg.train.amp), model, cfg.train.device)
    model = distribute(model)
    trainer = trainer_class(model, instantiate(cfg.dataloader.train), optimizer)
    checkpointer = SkipCheckpointer(
        model, cfg.train.output_dir, trust_pickle=trust_pickle, trainer=trainer
    )
    trainer.register_hooks(build_hooks(cfg, model, checkpointer))
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    goes_on = resume and checkpointer.has_checkpoint()
    explained = explain_failure("optimizer.lr", cfg.optimizer.lr, cfg.train.output_dir)
    with explained, end_at_early_stop():
        trainer.train(trainer.iter + 1 if goes_on else 0, cfg.train.max_iter)


def build_hooks(cfg: DictConfig, model: torch.nn.Module, checkpointer: SkipCheckpointer) -> list:
    built = [hooks.IterationTimer(), hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier))]
    built.append(hooks.EvalHook(cfg.train.eval_period, lambda: evaluate(cfg, model)))
    loss = None
    if cfg.train.get("validation_loss", False):
        loader = instantiate(cfg.dataloader.validation)
        loss = ValidationLoss(model, {"dataloader.validation": loader})
    built += build_validation_hooks(
        cfg.train.eval_period,
        checkpointer,
        cfg.train.get("best_metric", ""),
        validation_loss=loss,
        **cfg.train.get("early_stopping", {}),
    )
    if comm.is_main_process():
        built.append(hooks.PeriodicCheckpointer(checkpointer, **cfg.train.checkpointer))
        writers = default_writers(cfg.train.output_dir, cfg.train.max_iter)
        built.append(hooks.PeriodicWriter(writers, period=cfg.train.log_period))
    return built


def cli() -> int:
    parser = default_argument_parser(epilog=__doc__)
    add_trust_argument(parser)
    args = parser.parse_args()
    launch(main, args, load_lazy_cfg(args.config_file, args.opts).train.device)
    return 0


if __name__ == "__main__":
    run_cli(cli)
