"""LazyConfigs: reading them, and training what they build."""

import copy
import functools
import inspect

from detectron2.config import CfgNode, LazyConfig, instantiate
from detectron2.engine import hooks
from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from ..checkpoints.loading import SkipCheckpointer
from ..config import find_config, flatten, setup_cfg
from ..data.catalog import check_registered
from ..errors import ConfigError, look_up_option
from .stream import ReplayableLoader
from .trainer import NucleiTrainer

#: Where a LazyConfig's ``train`` has what the keys of a YAML config say.
LAZY_KEYS = {
    "OUTPUT_DIR": "output_dir",
    "SEED": "seed",
    "TRACKING": "tracking",
    "MODEL.DEVICE": "device",
    "MODEL.WEIGHTS": "init_checkpoint",
    "MODEL.WEIGHTS_PARTIAL": "weights_partial",
    "DATALOADER.REPLAYABLE": "replayable",
    "SOLVER.MAX_ITER": "max_iter",
    "SOLVER.CHECKPOINT_PERIOD": "checkpointer.period",
    "SOLVER.EMA_DECAY": "ema_decay",
    "SOLVER.AMP.ENABLED": "amp.enabled",
    "SOLVER.AMP.PRECISION": "amp.precision",
    "TEST.EVAL_PERIOD": "eval_period",
    "TEST.VALIDATION_LOSS": "validation_loss",
    "TEST.BEST_METRIC": "best_metric",
    "TEST.EARLY_STOPPING.PATIENCE": "early_stopping.patience",
    "TEST.EARLY_STOPPING.MIN_DELTA": "early_stopping.min_delta",
}
#: Of a LazyConfig that lacks these; the others are as in a YAML config.
_DEFAULTS = {"TEST.VALIDATION_LOSS": False, "TEST.BEST_METRIC": ""}


def read_config(config_file: str, opts: list[str]) -> tuple[CfgNode, type[NucleiTrainer]]:
    """Read a config of either kind, with the class that trains what it describes.

    Args:
        config_file: of :func:`.config.find_config`. A LazyConfig (.py) is run.
        opts: ``KEY VALUE`` pairs, or ``path.key=value`` of a LazyConfig.

    Raises:
        ConfigError: it is unusable.
    """
    if config_file.endswith(".py"):
        lazy = load_lazy_cfg(config_file, opts)
        return _settings(lazy), type("LazyTrainer", (LazyTrainer,), {"lazy": lazy})
    return setup_cfg(config_file, opts), NucleiTrainer


def load_lazy_cfg(config_file: str, opts: list[str]) -> DictConfig:
    """Load a LazyConfig, complete its ``train``, and apply ``path.key=value`` options.

    Raises:
        ConfigError: there is no such file, an option is malformed, or names a key that neither
            the config nor the signature of the node's ``_target_`` knows.
    """
    lazy = LazyConfig.load(find_config(config_file))
    cfg = setup_cfg()
    for key, place in LAZY_KEYS.items():
        if OmegaConf.select(lazy.train, place) is None:
            node, name = _find(cfg, key)
            default = _DEFAULTS.get(key, node[name])
            OmegaConf.update(lazy.train, place, default, force_add=True)
    for option in opts:
        _check_option(lazy, option)
    try:
        return LazyConfig.apply_overrides(lazy, opts)
    except Exception as error:  # hydra and omegaconf raise kinds of their own
        raise ConfigError(f"the command line: {error}") from error


class LazyTrainer(NucleiTrainer):
    """:class:`NucleiTrainer` with the parts of a LazyConfig; :func:`read_config` derives a class
    for each, for detectron2 builds parts without an instance."""

    lazy: DictConfig

    def build_hooks(self) -> list:
        """As in NucleiTrainer, with ``train.checkpointer`` and ``train.log_period``."""
        train, built = self.lazy.train, []
        for hook in super().build_hooks():
            if isinstance(hook, hooks.PeriodicCheckpointer):
                hook = hooks.PeriodicCheckpointer(self.checkpointer, **train.checkpointer)
            elif isinstance(hook, hooks.PeriodicWriter):
                hook._period = train.log_period
            built.append(hook)
        return built

    @classmethod
    def flat_config(cls, cfg: CfgNode) -> dict[str, str]:
        return flatten(OmegaConf.to_container(cls.lazy))

    @classmethod
    def check_datasets(cls, cfg: CfgNode) -> None:
        for part in cls.lazy.dataloader:
            check_registered(_dataset_names(cls.lazy, part), f"dataloader.{part}.dataset.names")

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        return instantiate(cls.lazy.model).to(cfg.MODEL.DEVICE)

    @classmethod
    def build_trained_model(cls, cfg: CfgNode, trust_pickle: bool = False) -> nn.Module:
        model = cls.build_model(cfg)
        SkipCheckpointer(model, trained=True, trust_pickle=trust_pickle).load(cfg.MODEL.WEIGHTS)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module):
        cls.lazy.optimizer.params.model = model
        return instantiate(cls.lazy.optimizer)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer):
        return instantiate(cls.lazy.lr_multiplier)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, records=None):
        """``dataloader.train``; with ``train.replayable`` a :class:`ReplayableLoader` in place of
        detectron2's ``build_detection_train_loader``."""
        loader = cls.lazy.dataloader.train
        if not cfg.DATALOADER.REPLAYABLE:
            return instantiate(loader)
        known = ["_target_", *inspect.signature(ReplayableLoader).parameters]
        for key in loader:
            look_up_option(key, known, "train.replayable: dataloader.train", ConfigError)
        return instantiate({**loader, "_target_": ReplayableLoader, "seed": cfg.SEED})

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str):
        return instantiate(cls.lazy.dataloader.test)

    @classmethod
    def build_validation_loader(cls, cfg: CfgNode, dataset_name: str):
        """``dataloader.validation``, or else ``dataloader.test``, whose mapper then takes
        ``with_targets``."""
        if "validation" in cls.lazy.dataloader:
            return instantiate(cls.lazy.dataloader.validation)
        _check_option(cls.lazy, "dataloader.test.mapper.with_targets=True")
        loader = copy.deepcopy(cls.lazy.dataloader.test)
        loader.mapper.with_targets = True
        return instantiate(loader)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str):
        return instantiate(cls.lazy.dataloader.evaluator)


def _settings(lazy: DictConfig) -> CfgNode:
    """What ``train`` of a LazyConfig says as a config, with one name for its test data, if any."""
    cfg = setup_cfg()
    for key, place in LAZY_KEYS.items():
        node, name = _find(cfg, key)
        node[name] = OmegaConf.select(lazy.train, place)
    if "test" in lazy.dataloader:
        cfg.DATASETS.TEST = (", ".join(_dataset_names(lazy, "test")) or "dataloader.test",)
    return cfg


def _find(cfg: CfgNode, key: str) -> tuple[CfgNode, str]:
    """The node that holds a dotted key, and the key's name there."""
    *parents, name = key.split(".")
    return functools.reduce(CfgNode.__getitem__, parents, cfg), name


def _dataset_names(lazy: DictConfig, part: str) -> list[str]:
    """The names of the data sets of ``dataloader.<part>``, if it takes registered ones."""
    names = OmegaConf.select(lazy, f"dataloader.{part}.dataset.names", default=[])
    return [names] if isinstance(names, str) else list(names)


def _check_option(lazy: DictConfig, option: str) -> None:
    path, equals, _ = option.partition("=")
    if not equals:
        raise ConfigError(f"options are 'path.key=value', got '{option}'.")
    node = lazy
    for key in path.split("."):
        if isinstance(node, ListConfig):
            look_up_option(key, map(str, range(len(node))), f"{option}: index", ConfigError)
            node = node[int(key)]
        elif isinstance(node, DictConfig):
            known = list(node)
            if target := node.get("_target_"):
                target = locate(target) if isinstance(target, str) else target
                known += inspect.signature(target).parameters
            look_up_option(key, known, f"{option}: config key", ConfigError)
            node = node._get_node(key) if key in node else None
        else:
            return
