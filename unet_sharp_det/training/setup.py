"""From the command line to a config: merging, and errors that name the nearest key."""

import logging
import os
import re
from pathlib import Path

import detectron2
import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from yaml.constructor import ConstructorError

from ..config import add_unet_sharp_config
from ..errors import ConfigError, UserError, first_line, look_up_option
from .mixed_precision import lacks_precision

logger = logging.getLogger(__name__)


def setup_cfg(config_file: str | dict = "", opts: list[str] | None = None) -> CfgNode:
    """detectron2's defaults, the keys of this package, a YAML file and ``KEY VALUE`` pairs.

    Configs may be strangers', so that none of it is run: neither the Python expressions that
    detectron2 reads from YAML (but for those in its own model zoo), nor the pickles of
    ``MODEL.LOAD_PROPOSALS``.

    Args:
        config_file: path of a YAML file, "" for none, or what stands in a file.
        opts: keys and values in turn, e.g. ``["SOLVER.BASE_LR", "0.01"]``.

    Returns:
        CfgNode: not frozen.

    Raises:
        ConfigError: a file is missing, no YAML or holds Python, a key is unknown, a value has a
            wrong type, or the config asks for precomputed proposals.
    """
    cfg = get_cfg()
    add_unet_sharp_config(cfg)
    if isinstance(config_file, dict):
        _merge_content(cfg, config_file)
    elif config_file:
        _merge_file(cfg, config_file)
    _merge_opts(cfg, opts or [])
    if cfg.MODEL.LOAD_PROPOSALS:
        raise ConfigError(
            "MODEL.LOAD_PROPOSALS True: precomputed proposals are not supported, and their files "
            "(pickles) could run any program. Set it to False."
        )
    return cfg


def fall_back_to_cpu(cfg: CfgNode) -> None:
    """Where ``MODEL.DEVICE`` asks for a GPU and there is none, train on the CPU; without AMP if the
    device does not compute in its precision.

    Raises:
        ConfigError: ``SOLVER.AMP.PRECISION`` is unknown.
    """
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
        logger.warning(f"No CUDA device: running on the CPU, {torch.get_num_threads()} threads.")
    reason = lacks_precision(cfg.SOLVER.AMP.PRECISION, cfg.MODEL.DEVICE)
    if reason and cfg.SOLVER.AMP.ENABLED:
        cfg.SOLVER.AMP.ENABLED = False
        logger.warning(f"SOLVER.AMP: {reason}: training in float32.")


def known_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    """All keys of a config as dotted paths, nodes included."""
    keys = []
    for name, value in cfg.items():
        keys.append(f"{prefix}{name}")
        if isinstance(value, CfgNode):
            keys.extend(known_keys(value, f"{prefix}{name}."))
    return keys


class _CautiousCfgNode(CfgNode):
    """Reads Python in YAML from detectron2's own configs only, which are code that is installed."""

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict:
        return super().load_yaml_with_base(filename, allow_unsafe=_is_of_detectron2(filename))


def _is_of_detectron2(path: str) -> bool:
    configs = Path(detectron2.__file__).parent / "model_zoo" / "configs"
    return Path(path).resolve().is_relative_to(configs.resolve())


def _merge_file(cfg: CfgNode, path: str) -> None:
    if not os.path.isfile(path):
        raise ConfigError(f"--config-file: there is no file '{path}'; see configs/README.md.")
    _check_keys(known_keys(_load_yaml(path)), cfg, path)
    try:
        # What _load_yaml let through holds Python in detectron2's own files at most.
        cfg.merge_from_file(path, allow_unsafe=True)
    except (ValueError, AssertionError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _merge_content(cfg: CfgNode, content: dict) -> None:
    try:
        loaded = CfgNode(content)
        _check_keys(known_keys(loaded), cfg, "its content")
        cfg.merge_from_other_cfg(loaded)
    except UserError:
        raise
    except Exception as error:  # of types, and of the literals that texts are read as
        raise ConfigError(f"a value is of a wrong type: {first_line(error)}.") from error


def _load_yaml(path: str) -> CfgNode:
    try:
        loaded = _CautiousCfgNode.load_yaml_with_base(path)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: its _BASE_ '{error.filename}' does not exist.") from error
    except ConstructorError as error:
        raise ConfigError(_explain_tag(path, error)) from error
    except (yaml.YAMLError, TypeError) as error:
        raise ConfigError(f"{path} is no valid YAML config: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} is no valid YAML config: it holds no 'KEY: value' pairs.")
    return CfgNode(loaded)


def _explain_tag(path: str, error: ConstructorError) -> str:
    mark = error.problem_mark
    where = f"{mark.name}, line {mark.line + 1}" if mark else path
    tag = re.search("tag:yaml.org,2002:(python/[^']*)", str(error.problem))
    if not tag:
        return f"{path} is no valid YAML config: {where}: {error.problem}"
    return (
        f"{where}: '!!{tag[1]}' is Python, which a config may not run: it could do all that you "
        "can do. Write a plain value, e.g. [1, 2] for a tuple; a config that has to compute is a "
        "LazyConfig (tools/lazyconfig_train_net.py)."
    )


def _merge_opts(cfg: CfgNode, opts: list[str]) -> None:
    for option in opts[0::2]:
        if option.startswith("--"):
            raise ConfigError(f"the command line: {option} must stand before 'KEY VALUE' pairs.")
    if len(opts) % 2:
        raise ConfigError(f"options are 'KEY VALUE' pairs, but the last one has no value: {opts}.")
    _check_keys(opts[0::2], cfg, "the command line")
    try:
        cfg.merge_from_list(opts)
    except (ValueError, AssertionError) as error:
        raise ConfigError(f"the command line: {error}") from error


def _check_keys(keys: list[str], cfg: CfgNode, where: str) -> None:
    known = known_keys(cfg)
    for key in keys:
        look_up_option(key, known, f"{where}: config key", ConfigError)
