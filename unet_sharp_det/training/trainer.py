"""Training and evaluation of detectors on nuclei, as detectron2's DefaultTrainer does it."""

import contextlib
import logging
import os
import weakref

import torch
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.engine import AMPTrainer, DefaultTrainer, TrainerBase, hooks
from detectron2.evaluation import DatasetEvaluators
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.events import has_event_storage
from torch import nn

from ..checkpoints.class_names import class_count, class_part, names_of_data
from ..checkpoints.loading import SkipCheckpointer
from ..checkpoints.trained_model import load_trained_model
from ..config import flatten
from ..data.balance import repeat_rare_looks
from ..data.catalog import check_registered
from ..data.mapper import NucleiDatasetMapper
from ..errors import (
    CheckpointError,
    ConfigError,
    DatasetError,
    TrainingError,
    UserError,
    disk_error,
    look_up_option,
    one_line,
)
from ..evaluation import EvaluationOptions, build_nuclei_evaluators
from ..files import write_json
from ..modeling.semantic_labels import PIXEL_WISE
from ..modeling.test_time_augmentation import AveragedViews
from ..runtime import accelerate, use_channels_last
from .averaging import WeightAverage
from .best_metric import EarlyStop, build_validation_hooks, full_name
from .launch import distribute
from .mixed_precision import choose_trainer
from .speed import SPEED_FILE, measured_speed
from .stream import ReplayableLoader, SeedIterations
from .tracking import build_tracker
from .validation_images import ValidationImages
from .validation_loss import ValidationLoss

logger = logging.getLogger(__name__)

_LEAST = {"SOLVER.MAX_ITER": 1, "SOLVER.CHECKPOINT_PERIOD": 1, "DATALOADER.NUM_WORKERS": 0}
_SCHEDULERS = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")
_SAMPLERS = ("TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler")
_NAMES = {
    "SOLVER.LR_SCHEDULER_NAME": _SCHEDULERS,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("value", "norm"),
    "DATALOADER.SAMPLER_TRAIN": _SAMPLERS,
}
_ADAPTIVE = {"AdamW": torch.optim.AdamW, "Adam": torch.optim.Adam}


class NucleiTrainer(DefaultTrainer):
    """DefaultTrainer with nuclei data, AdamW, CPU workers, replayable data, and what goes by the
    validation data: its loss, the best checkpoint, early stopping."""

    #: The LazyConfig that the parts come from; None: they come from ``cfg``.
    lazy = None

    def __init__(self, cfg: CfgNode, trust_pickle: bool = False, records: list[dict] | None = None):
        """Build all parts.

        Args:
            trust_pickle: of :class:`SkipCheckpointer`.
            records: of :func:`load_training_records`, if they were loaded before.
        """
        TrainerBase.__init__(self)
        check_values(cfg)
        self.check_datasets(cfg)
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        self.cfg = cfg
        self.tracker = build_tracker(cfg.TRACKING, cfg.OUTPUT_DIR, self.flat_config(cfg))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        model = self.build_model(cfg)
        if torch.device(cfg.MODEL.DEVICE).type == "cpu":
            use_channels_last(model)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        logger.info(f"{type(model).__name__}: {trained / 1e6:.2f} M trained parameters.")
        logger.debug(f"Model:\n{model}")
        optimizer = self.build_optimizer(cfg, model)
        amp = cfg.SOLVER.AMP
        precision = amp.PRECISION if amp.ENABLED else None
        trainer_class = choose_trainer(precision, model, cfg.MODEL.DEVICE)
        data_loader = self.build_train_loader(cfg, records)
        self._trainer = trainer_class(distribute(model), data_loader, optimizer)
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
        if isinstance(self._trainer.data_loader, ReplayableLoader):
            self._trainer.data_loader.skip_batches(self.start_iter)

    def load_state_dict(self, state_dict: dict) -> None:
        """As in DefaultTrainer; what was trained in float32 goes on in fp16 with a new scaler.

        Raises:
            CheckpointError: the state is of another optimizer.
        """
        if isinstance(self._trainer, AMPTrainer):
            scaler = self._trainer.grad_scaler.state_dict()
            state_dict["_trainer"].setdefault("grad_scaler", scaler)
        options = [set(group) for group in self.optimizer.param_groups]
        with contextlib.suppress(ValueError):  # of an optimizer with other groups
            super().load_state_dict(state_dict)
            if all(map(set.issubset, options, self.optimizer.param_groups)):
                return
        raise CheckpointError(
            f"{self.cfg.OUTPUT_DIR}: its run has another optimizer, or groups of parameters. Go on "
            "with its config.yaml, or take another OUTPUT_DIR."
        )

    def train(self):
        """As in DefaultTrainer; it returns None at an early stop. See :func:`explain_failure`."""
        resumed = self.start_iter > 0
        tracked = self.tracker.run(resumed) if self.tracker else contextlib.nullcontext()
        with explain_failure(self.cfg.OUTPUT_DIR), tracked, contextlib.suppress(EarlyStop):
            return super().train()

    def build_hooks(self) -> list:
        """detectron2's hooks, those of the validation, and the periodic checkpoints after them,
        which hold the hooks' states: a resumed run knows the evaluation of that iteration."""
        built = super().build_hooks()
        if self.cfg.DATALOADER.REPLAYABLE:
            built.insert(0, SeedIterations(self.cfg.SEED))
        if decay := self.cfg.SOLVER.EMA_DECAY:
            built.insert(0, WeightAverage(getattr(self.model, "module", self.model), decay))
        last = (hooks.PeriodicCheckpointer, hooks.PeriodicWriter)
        at_end = [hook for hook in built if isinstance(hook, last)]
        built = [hook for hook in built if not isinstance(hook, last)]
        if self.cfg.DATASETS.TEST:
            built += self._build_validation_hooks()
        elif self.cfg.TEST.EARLY_STOPPING.PATIENCE:
            raise ConfigError("TEST.EARLY_STOPPING.PATIENCE needs DATASETS.TEST, which is empty.")
        return built + at_end

    def build_writers(self) -> list:
        """detectron2's writers, and the tracker before the last, TensorBoard's."""
        *others, tensorboard = super().build_writers()
        return [*others, *filter(None, [self.tracker]), tensorboard]

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
        """As in DefaultTrainer, on a CPU faster (:func:`.runtime.accelerate`); the speed goes to
        ``inference/speed.json``, and in a training images to the event storage. With
        ``TEST.AUG.ENABLED`` the model is one of :class:`.AveragedViews`."""
        model = getattr(model, "module", model)
        if evaluators is None and has_event_storage() and comm.is_main_process():
            evaluators = [cls._with_images(cfg, name, model) for name in cfg.DATASETS.TEST]
        if torch.device(cfg.MODEL.DEVICE).type == "cpu":
            model = accelerate(model)
        if cfg.TEST.AUG.ENABLED:
            model = AveragedViews(model)
        with measured_speed(model) as speed:
            results = super().test(cfg, model, evaluators)
        if speed and comm.is_main_process():
            write_json(os.path.join(cfg.OUTPUT_DIR, "inference", SPEED_FILE), speed, indent=2)
        return results

    @classmethod
    def _with_images(cls, cfg: CfgNode, name: str, model: nn.Module) -> list:
        evaluators = [cls.build_evaluator(cfg, name)]
        if name in DatasetCatalog:  # Data of a LazyConfig need not be.
            head = getattr(model, "sem_seg_head", None)
            counting = EvaluationOptions.from_config(cfg).counting
            evaluators.append(ValidationImages(name, getattr(head, "labels", None), counting))
        return evaluators

    @classmethod
    def flat_config(cls, cfg: CfgNode) -> dict[str, str]:
        """Return ``{dotted key: value as text}`` of what is trained."""
        return flatten(cfg)

    @classmethod
    def check_datasets(cls, cfg: CfgNode) -> None:
        """Raise a DatasetError if a data set is unknown, or one of the evaluation unusable."""
        if not cfg.DATASETS.TRAIN:
            raise ConfigError("DATASETS.TRAIN is empty. Name the data set to train on.")
        check_registered(cfg.DATASETS.TRAIN, "DATASETS.TRAIN")
        check_registered(cfg.DATASETS.TEST, "DATASETS.TEST")
        mapper = build_mapper(cfg, is_train=False)
        for name in cfg.DATASETS.TEST:
            mapper.check_records(DatasetCatalog.get(name), name)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        try:
            return build_model(cfg)
        except (KeyError, AssertionError) as error:  # detectron2's, of what the config names
            raise ConfigError(
                f"The model cannot be built ({one_line(error)}). Correct the config."
            ) from error

    @classmethod
    def build_trained_model(cls, cfg: CfgNode, trust_pickle: bool = False) -> nn.Module:
        """Build the model with all weights of ``MODEL.WEIGHTS``, as its training left them."""
        return load_trained_model(cfg, trust_pickle).model

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
    def build_train_loader(cls, cfg: CfgNode, records: list[dict] | None = None):
        """detectron2's loader, or with ``DATALOADER.REPLAYABLE`` a :class:`ReplayableLoader`."""
        batch, processes = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
        if batch < 1 or batch % processes:
            raise ConfigError(
                f"SOLVER.IMS_PER_BATCH is {batch}. Set a multiple of the {processes} processes."
            )
        mapper = build_mapper(cfg, is_train=True)
        records = records or load_training_records(cfg, mapper)
        records = repeat_rare_looks(records, cfg.DATALOADER.BALANCE_LOOKS)
        # Patches of volumes, which are not read before, are of one size.
        grouping = cfg.DATALOADER.ASPECT_RATIO_GROUPING and "width" in records[0]
        if not cfg.DATALOADER.REPLAYABLE:
            return build_detection_train_loader(
                cfg, mapper=mapper, dataset=records, aspect_ratio_grouping=grouping
            )
        if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
            raise ConfigError("DATALOADER.REPLAYABLE needs SAMPLER_TRAIN TrainingSampler. Set it.")
        return ReplayableLoader(
            records,
            mapper,
            seed=cfg.SEED,
            total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            aspect_ratio_grouping=grouping,
        )

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str):
        check_registered([dataset_name], "DATASETS.TEST")
        mapper = build_mapper(cfg, is_train=False)
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)

    @classmethod
    def build_validation_loader(cls, cfg: CfgNode, dataset_name: str):
        """The test loader, with the annotations that the losses need."""
        mapper = build_mapper(cfg, is_train=False, with_targets=True)
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluators:
        return build_nuclei_evaluators(cfg, dataset_name)


def build_mapper(cfg: CfgNode, is_train: bool, **options):
    """Build the mapper of what the model takes: images, or volumes."""
    if cfg.MODEL.META_ARCHITECTURE != "VolumeSegmentor":
        return NucleiDatasetMapper(cfg, is_train, **options)
    from ..data.volume_mapper import VolumeMapper  # MONAI takes seconds to import.

    return VolumeMapper(cfg, is_train, **options)


def load_training_records(cfg: CfgNode, mapper) -> list[dict]:
    """Load the images of ``DATASETS.TRAIN``.

    Raises:
        DatasetError: a data set is unusable, there is no object, one lacks the mask that the model
            learns, or the label maps cannot be meant: ``check_records`` of the mapper.
    """
    names = ", ".join(cfg.DATASETS.TRAIN)
    records = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=False)
    mapper.check_records(records, names)
    if cfg.MODEL.META_ARCHITECTURE not in PIXEL_WISE:
        _check_classes(records, cfg, names)
    with_objects = [record for record in records if mapper.has_objects(record)]
    if not with_objects:
        raise DatasetError(
            f"DATASETS.TRAIN: {names} has no object in its {len(records)} images. Annotate some."
        )
    if not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        return records
    logger.info(f"{names}: {len(records) - len(with_objects)} images without objects left out.")
    return with_objects


def _check_classes(records: list[dict], cfg: CfgNode, names: str) -> None:
    """Raise a DatasetError if objects have more classes than the model: detectron2 would take them
    for background, or fail in the loss."""
    count = class_count(cfg)
    found = {each["category_id"] for record in records for each in record.get("annotations", ())}
    if (classes := max(found, default=0) + 1) > count:
        raise DatasetError(
            f"{names}: has objects of {classes} classes, but the model has {count}. Set "
            f"MODEL.{class_part(cfg)}.NUM_CLASSES {classes}."
        )


def check_values(cfg: CfgNode) -> None:
    """Raise a ConfigError for values that detectron2 takes as they are."""
    values = flatten(cfg)
    for key, least in _LEAST.items():
        if int(values[key]) < least:
            raise ConfigError(f"{key} is {values[key]}. Give {least} or more.")
    for key, names in _NAMES.items():
        look_up_option(values[key], names, key, ConfigError)
    solver = cfg.SOLVER
    steps = solver.LR_SCHEDULER_NAME == "WarmupStepWithFixedGammaLR"
    if steps and not 1 <= solver.NUM_DECAYS <= solver.MAX_ITER:
        raise ConfigError(
            f"SOLVER.NUM_DECAYS is {solver.NUM_DECAYS}. Give 1 to SOLVER.MAX_ITER, which is "
            f"{solver.MAX_ITER}."
        )


@contextlib.contextmanager
def explain_failure(output_dir: str):
    """Turn what ends a training into a TrainingError: a loss that diverged, a full disk."""
    detectron2_logger = logging.getLogger(TrainerBase.__module__)
    detectron2_logger.addFilter(_is_unexplained)
    try:
        yield
    except FloatingPointError as error:
        raise TrainingError(
            f"{error} Lower SOLVER.BASE_LR (LazyConfig: optimizer.lr), lengthen the warm-up, or "
            "clip gradients, and train anew (--resume keeps the rate), e.g. from a checkpoint in "
            f"{output_dir}."
        ) from error
    except Exception as error:
        if full := disk_error(error):
            raise TrainingError(
                f"{full.filename or output_dir}: cannot be written ({full.strerror}). Make room "
                "and go on with --resume."
            ) from error
        raise
    finally:
        detectron2_logger.removeFilter(_is_unexplained)


def _is_unexplained(record: logging.LogRecord) -> bool:
    """Whether a message has no traceback, or that of a defect."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, UserError | FloatingPointError) or disk_error(error))
