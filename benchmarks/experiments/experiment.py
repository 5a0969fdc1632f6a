"""An experiment: runs, each of one config, that are trained with the same seeds."""

from dataclasses import dataclass
from pathlib import Path

import yaml
from detectron2.config import CfgNode

from unet_sharp_det.checkpoints.trained_model import build_on_meta
from unet_sharp_det.config import find_config, setup_cfg
from unet_sharp_det.data.catalog import check_registered
from unet_sharp_det.errors import ConfigError, UserError, look_up_option
from unet_sharp_det.files import leads_inside
from unet_sharp_det.modeling.pruning import prune_config
from unet_sharp_det.modeling.semantic_labels import PIXEL_WISE

CONFIGS = Path(__file__).parents[2] / "configs"

_KEYS = ("description", "opts", "seeds", "runs", "metrics")
_RUN_KEYS = ("config", "opts", "evaluates")
_OWN_KEYS = ("OUTPUT_DIR", "SEED", "DATALOADER.REPLAYABLE")  # Set by the scheduler.

_SEMANTIC_METRICS = ("sem_seg/IoU_image_mean", "sem_seg/Dice_image_mean")
_INSTANCE_METRICS = ("instances/DSB_score", "segm/AP", "segm/AP50", "bbox/AP")
_INSTANCE_METRICS += ("instances/PQ_image_mean", "instances/F1_50_image_mean")


@dataclass(frozen=True)
class Run:
    """One row of an experiment's table; it is trained, or evaluated, once per seed.

    Attributes:
        name: also of its folder.
        config_file: of ``tools/train_net.py``.
        opts: ``KEY VALUE ...`` beside it.
        cfg: both merged, frozen.
        evaluates: name of the run whose final weights are evaluated, of the same seed; None: the
            run is a training.
    """

    name: str
    config_file: Path
    opts: tuple[str, ...]
    cfg: CfgNode
    evaluates: str | None = None

    @property
    def level(self) -> int:
        """That the evaluated network is pruned to; 0: none."""
        return self.cfg.TEST.PRUNE_TO_LEVEL if self.evaluates is not None else 0

    @property
    def evaluated_cfg(self) -> CfgNode:
        """The config of the network that is evaluated."""
        if not self.level:
            return self.cfg
        return prune_config(self.cfg, self.level, self.cfg.MODEL.SEM_SEG_HEAD.INFERENCE)


@dataclass(frozen=True)
class Experiment:
    """What a YAML file in ``configs/experiments/`` says, checked.

    Attributes:
        path: the file.
        description: a sentence for the table, or "".
        seeds: SEED of the runs.
        runs: the first one is what others are compared with.
        metrics: ``<task>/<name>``, the columns of the table.
    """

    path: Path
    description: str
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    metrics: tuple[str, ...]

    @classmethod
    def load(cls, path) -> "Experiment":
        """Read the file and merge all its configs, so that no run fails for a typo.

        Args:
            path: of a YAML file with the keys ``runs`` (``{name: {config, opts, evaluates}}``;
                configs as :func:`find_config` takes them), ``opts`` (KEY: VALUE for all runs),
                ``seeds``, ``description``, ``metrics``.

        Raises:
            ConfigError: something in it, or in a config, is unknown or does not fit.
        """
        path = Path(path)
        content = _mapping(_read(path), _KEYS, str(path))
        common = _opts(content.get("opts"), f"{path}: opts")
        if not isinstance(content.get("runs"), dict) or not content["runs"]:
            raise ConfigError(f"{path}: runs: write 'NAME: {{config: FILE.yaml}}' for each run.")
        names = [str(name) for name in content["runs"]]
        if len(set(names)) < len(names) or not all(map(leads_inside, names)):
            raise ConfigError(f"{path}: runs: name a folder for each, as 'unet_wide', not {names}.")
        runs = tuple(_run(name, run, common, path) for name, run in content["runs"].items())
        _check_evaluations(runs, path)
        seeds = _seeds(content.get("seeds", [0]), path)
        metrics = _metrics(content.get("metrics"), runs, path)
        return cls(path, str(content.get("description", "")), seeds, runs, metrics)

    @property
    def name(self) -> str:
        """That of the file, and of the folder of its results."""
        return self.path.stem

    def select(self, runs: list[str] | None, seeds: list[int] | None) -> list[tuple[Run, int]]:
        """Pair runs and seeds, in the order to run them: seed by seed, so that all runs have
        been compared on one seed before the next one.

        Args:
            runs, seeds: some of the experiment's; None: all.

        Raises:
            ConfigError: one is not the experiment's.
        """
        for name in runs or ():
            look_up_option(name, [r.name for r in self.runs], f"{self.path}: run", ConfigError)
        for seed in seeds or ():
            look_up_option(str(seed), map(str, self.seeds), f"{self.path}: seed", ConfigError)
        return [
            (run, seed)
            for seed in self.seeds
            for run in self.runs
            if (not runs or run.name in runs) and (not seeds or seed in seeds)
        ]


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML silently takes the last."""

    def construct_mapping(self, node, deep=False):
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in own]
        for key in keys:
            if keys.count(key) > 1:
                problem = f"'{key}' stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep)


def _read(path: Path):
    if not path.is_file():
        existing = sorted(file.name for file in (CONFIGS / "experiments").glob("*.yaml"))
        raise ConfigError(f"There is no file {path}. In configs/experiments: {existing}.")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise ConfigError(f"{path} is no valid YAML: {error}") from error


def _mapping(content, keys: tuple[str, ...], where: str) -> dict:
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: write 'KEY: value' pairs, with the keys {', '.join(keys)}.")
    for key in content:
        look_up_option(key, keys, f"{where}: key", ConfigError)
    return content


def _opts(content, where: str) -> dict[str, str]:
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: write 'CONFIG.KEY: value' pairs, not {content!r}.")
    for key in _OWN_KEYS:
        if key in content:
            raise ConfigError(f"{where}: {key} is set by the runner. Leave it out, use 'seeds'.")
    return {str(key): str(value) for key, value in content.items()}


def _seeds(seeds, path: Path) -> tuple[int, ...]:
    whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{path}: seeds: write different whole numbers, as [0, 1], not {seeds}.")
    return tuple(seeds)


def _metrics(metrics, runs: tuple[Run, ...], path: Path) -> tuple[str, ...]:
    if metrics is None:
        metrics = [metric for run in runs for metric in _default_metrics(run.cfg)]
    if not isinstance(metrics, list) or not all(isinstance(each, str) for each in metrics):
        raise ConfigError(f"{path}: metrics: write a list, as [segm/AP], not {metrics!r}.")
    return tuple(dict.fromkeys(metrics))


def _default_metrics(cfg: CfgNode) -> tuple[str, ...]:
    model = cfg.MODEL
    if model.META_ARCHITECTURE in PIXEL_WISE and model.SEM_SEG_HEAD.TARGET == "labels":
        return _SEMANTIC_METRICS
    return _INSTANCE_METRICS if model.MASK_ON else ("bbox/AP",)


def _run(name, content, common: dict[str, str], path: Path) -> Run:
    where = f"{path}: runs: {name}"
    content = _mapping(content, _RUN_KEYS, where)
    if not isinstance(content.get("config"), str):
        raise ConfigError(f"{where}: 'config: FILE.yaml' is missing.")
    opts = {**common, **_opts(content.get("opts"), f"{where}: opts")}
    pairs = tuple(part for pair in opts.items() for part in pair)
    try:
        config_file = Path(find_config(content["config"])).resolve()
        cfg = setup_cfg(str(config_file), list(pairs))
        for option in ("TRAIN", "TEST"):
            check_registered(cfg.DATASETS[option], f"DATASETS.{option}")
        run = Run(str(name), config_file, pairs, cfg, content.get("evaluates"))
        build_on_meta(run.evaluated_cfg)
    except UserError as error:
        raise ConfigError(f"{where}: {error}") from error
    if len(cfg.DATASETS.TEST) != 1:
        raise ConfigError(f"{where}: DATASETS.TEST must name one data set, not {cfg.DATASETS.TEST}")
    cfg.freeze()
    return run


def _check_evaluations(runs: tuple[Run, ...], path: Path) -> None:
    trained = [run.name for run in runs if run.evaluates is None]
    for run in runs:
        if run.evaluates is not None:
            where = f"{path}: runs: {run.name}: evaluates"
            look_up_option(run.evaluates, trained, where, ConfigError)
