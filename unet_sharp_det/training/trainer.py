"""Training and evaluation of detectors on nuclei, as detectron2's DefaultTrainer does it."""

import logging
import os
import weakref

import torch
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.engine import DefaultTrainer, TrainerBase, hooks
from detectron2.evaluation import DatasetEvaluators
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from torch import nn

from ..checkpoints.class_names import names_of_data
from ..checkpoints.loading import SkipCheckpointer
from ..data import NucleiDatasetMapper
from ..data.catalog import check_registered
from ..data.label_checks import check_label_maps
from ..errors import ConfigError, look_up_option
from ..evaluation import build_nuclei_evaluators
from ..runtime import accelerate
from .best_metric import full_name
from .early_stopping import end_at_early_stop
from .hooks import SeedIterations, build_validation_hooks, explain_failure
from .launch import distribute
from .mixed_precision import choose_trainer
from .resources import InferenceSpeed
from .stream import build_replayable_loader, load_training_records
from .validation_loss import ValidationLoss

logger = logging.getLogger(__name__)

_ADAPTIVE = {"AdamW": torch.optim.AdamW, "Adam": torch.optim.Adam}


class NucleiTrainer(DefaultTrainer):
    """DefaultTrainer with nuclei data, AdamW, CPU workers, and what goes by the validation data:
    its loss, the best checkpoint, early stopping."""

    def __init__(self, cfg: CfgNode, trust_pickle: bool = False):
        """
        Args:
            cfg: with the keys of :func:`unet_sharp_det.add_unet_sharp_config`.
            trust_pickle: of :class:`SkipCheckpointer`.

        Raises:
            DatasetError: a data set, of the evaluation too, is unknown or unusable.
        """
        TrainerBase.__init__(self)
        _check_datasets(cfg)
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        self.cfg = cfg
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        amp = cfg.SOLVER.AMP
        precision = amp.PRECISION if amp.ENABLED else None
        trainer_class = choose_trainer(precision, model, cfg.MODEL.DEVICE)
        loader, self._stream = self._build_loader_and_stream(cfg)
        self._trainer = trainer_class(distribute(model), loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = SkipCheckpointer(
            self._trainer.model,
            cfg.OUTPUT_DIR,
            partial=cfg.MODEL.WEIGHTS_PARTIAL,
            trust_pickle=trust_pickle,
            class_names=cfg.MODEL.CLASS_NAMES or names_of_data(cfg),
            trainer=weakref.proxy(self),
        )
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True):
        """As in DefaultTrainer; a replayable loader goes on after the batches that were trained."""
        super().resume_or_load(resume=resume)
        if self._stream is not None:
            self._stream.skip_batches(self.start_iter)

    def train(self):
        """As in DefaultTrainer, but it returns None at an early stop.

        Raises:
            ConfigError: ``TEST.BEST_METRIC`` is none of the metrics that the first evaluation gave.
            TrainingError: the loss became NaN or infinite; the checkpoints before stay.
        """
        cfg = self.cfg
        explained = explain_failure("SOLVER.BASE_LR", cfg.SOLVER.BASE_LR, cfg.OUTPUT_DIR)
        with explained, end_at_early_stop():
            return super().train()

    def build_hooks(self) -> list:
        """detectron2's hooks with those of the validation, and the periodic checkpoints after them.

        A checkpoint holds the state of the hooks. Written before the evaluation, as detectron2
        does, it would make a resumed run forget that evaluation.
        """
        built = super().build_hooks()
        if self.cfg.DATALOADER.REPLAYABLE:
            built.insert(0, SeedIterations(self.cfg.SEED))
        last = (hooks.PeriodicCheckpointer, hooks.PeriodicWriter)
        at_end = [hook for hook in built if isinstance(hook, last)]
        built = [hook for hook in built if not isinstance(hook, last)]
        if self.cfg.DATASETS.TEST:
            built += self._build_validation_hooks()
        elif self.cfg.TEST.EARLY_STOPPING.PATIENCE:
            raise ConfigError("TEST.EARLY_STOPPING.PATIENCE needs DATASETS.TEST, which is empty.")
        return built + at_end

    def _build_validation_hooks(self) -> list:
        cfg = self.cfg
        loss = None
        if cfg.TEST.VALIDATION_LOSS:
            loaders = {name: self.build_validation_loader(cfg, name) for name in cfg.DATASETS.TEST}
            loss = ValidationLoss(self.model, loaders)
        return build_validation_hooks(
            cfg.TEST.EVAL_PERIOD,
            self.checkpointer,
            full_name(cfg.TEST.BEST_METRIC, cfg.DATASETS.TEST),
            validation_loss=loss,
            patience=cfg.TEST.EARLY_STOPPING.PATIENCE,
            min_delta=cfg.TEST.EARLY_STOPPING.MIN_DELTA,
        )

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators=None) -> dict:
        """As in DefaultTrainer, but on a CPU with the model arranged to run faster, as for
        prediction (:func:`.runtime.accelerate`); the speed goes to ``inference/speed.json``."""
        check_registered(cfg.DATASETS.TEST, "DATASETS.TEST")
        speed = InferenceSpeed()
        if torch.device(cfg.MODEL.DEVICE).type == "cpu":
            model = accelerate(getattr(model, "module", model))
        with speed.measure(model):
            results = super().test(cfg, model, evaluators)
        if comm.is_main_process():
            speed.write(os.path.join(cfg.OUTPUT_DIR, "inference"))
        return results

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = build_model(cfg)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        logger.info(f"{type(model).__name__}: {trained / 1e6:.2f} M trained parameters.")
        logger.debug(f"Model:\n{model}")
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """By ``SOLVER.OPTIMIZER``, with detectron2's parameter groups and gradient clipping."""
        options = ("SGD", *_ADAPTIVE)
        look_up_option(cfg.SOLVER.OPTIMIZER, options, "SOLVER.OPTIMIZER", ConfigError)
        if cfg.SOLVER.OPTIMIZER == "SGD":
            return build_optimizer(cfg, model)
        params = get_default_optimizer_params(
            model,
            base_lr=cfg.SOLVER.BASE_LR,
            weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
            bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
            weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        )
        optimizer = maybe_add_gradient_clipping(cfg, _ADAPTIVE[cfg.SOLVER.OPTIMIZER])
        return optimizer(params, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY)

    @classmethod
    def _build_loader_and_stream(cls, cfg: CfgNode):
        if not cfg.DATALOADER.REPLAYABLE:
            return cls.build_train_loader(cfg), None
        return build_replayable_loader(cfg, NucleiDatasetMapper(cfg, is_train=True))

    @classmethod
    def build_train_loader(cls, cfg: CfgNode):
        mapper = NucleiDatasetMapper(cfg, is_train=True)
        records = load_training_records(cfg, mapper)
        return build_detection_train_loader(cfg, mapper=mapper, dataset=records)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str):
        mapper = NucleiDatasetMapper(cfg, is_train=False)
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)

    @classmethod
    def build_validation_loader(cls, cfg: CfgNode, dataset_name: str):
        """The test loader, with the annotations that the losses need."""
        mapper = NucleiDatasetMapper(cfg, is_train=False, with_targets=True)
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluators:
        return build_nuclei_evaluators(cfg, dataset_name)


def _check_datasets(cfg: CfgNode) -> None:
    """Load what the evaluation will need, lest a training end without it."""
    check_registered(cfg.DATASETS.TRAIN, "DATASETS.TRAIN")
    check_registered(cfg.DATASETS.TEST, "DATASETS.TEST")
    mapper = NucleiDatasetMapper(cfg, is_train=False)
    for name in cfg.DATASETS.TEST:
        records = DatasetCatalog.get(name)
        mapper.check_masks(records)
        if mapper.semantic is not None:
            check_label_maps(records, mapper.semantic, name)
