"""Reading configs from YAML files and command lines."""

import contextlib
import os
import re
from pathlib import Path

import detectron2
import yaml
from detectron2.config import CfgNode, get_cfg

from ..addresses import address_of
from ..errors import ConfigError, UserError, did_you_mean, first_line, look_up_option
from .keys import add_unet_sharp_config

# Of an installed package, and of a checkout.
_PACKAGE = Path(__file__).parents[1]
_CONFIGS = (_PACKAGE / "model_zoo" / "configs", _PACKAGE.parent / "configs")

# What the class of another library knows, not this package.
_FOREIGN = "MODEL.EXTERNAL.ARGUMENTS."


def setup_cfg(config_file: str | dict = "", opts: list[str] | None = None) -> CfgNode:
    """Merge detectron2's defaults, the keys of this package, a YAML file and ``KEY VALUE`` pairs.

    Configs may be strangers', so nothing in them is run: neither Python expressions in YAML (but
    for those in detectron2's own model zoo), nor the pickles of ``MODEL.LOAD_PROPOSALS``.

    Args:
        config_file: a YAML file, see :func:`find_config`; "" for none; or what stands in a file.
        opts: keys and values in turn, e.g. ``["SOLVER.BASE_LR", "0.01"]``.

    Raises:
        ConfigError: a file is missing, no YAML or holds Python, a key is unknown, or a value has a
            wrong type.
    """
    cfg = get_cfg()
    add_unet_sharp_config(cfg)
    if isinstance(config_file, dict):
        with _wrong_types_named("its content"):
            loaded = CfgNode(config_file)
            _check_keys(_keys(loaded), cfg, "its content")
            cfg.merge_from_other_cfg(loaded)
    elif config_file:
        path = find_config(config_file)
        _check_keys(_keys(_load_yaml(path)), cfg, path)
        with _wrong_types_named(path):
            # What _load_yaml let through holds Python in detectron2's own files at most.
            cfg.merge_from_file(path, allow_unsafe=True)
    _merge_opts(cfg, opts or [])
    if cfg.MODEL.LOAD_PROPOSALS:
        raise ConfigError(
            "MODEL.LOAD_PROPOSALS: files of proposals are pickles, which could run any program. "
            "Set it to False."
        )
    return cfg


def find_config(name: str) -> str:
    """Return ``name`` if it is a file or an address, else the path of this project's config of that
    name, e.g. ``DSB2018-InstanceSegmentation/mask_rcnn_R_50_unetsharp.yaml``, also of an installed
    package.

    Raises:
        ConfigError: there is neither.
    """
    if os.path.isfile(name) or address_of(name):
        return name
    folder = next(path for path in _CONFIGS if path.is_dir())
    files = [*folder.rglob("*.yaml"), *folder.rglob("*.py")]
    known = sorted(path.relative_to(folder).as_posix() for path in files)
    if name not in known:
        alike = [each for each in known if Path(each).name == Path(name).name]
        raise ConfigError(
            f"'{name}': there is no config file, nor a config of the model zoo, of that name."
            f"{did_you_mean(name, alike or known)} See configs/README.md."
        )
    return str(folder / name)


def flatten(config: dict) -> dict[str, str]:
    """Return ``{dotted key: value as text}`` of a nested config."""
    return dict(_leaves(config, ""))


def _leaves(node, prefix: str):
    if isinstance(node, list) and any(isinstance(each, dict) for each in node):
        node = dict(enumerate(node))
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, getattr(node, "__qualname__", str(node))


class _CautiousCfgNode(CfgNode):
    """Reads Python in YAML from detectron2's own configs only, which are code that is installed."""

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict:
        configs = Path(detectron2.__file__).parent / "model_zoo" / "configs"
        is_installed = Path(filename).resolve().is_relative_to(configs.resolve())
        return super().load_yaml_with_base(filename, allow_unsafe=is_installed)


def _merge_opts(cfg: CfgNode, opts: list[str]) -> None:
    for option in opts[0::2]:
        if option.startswith("--"):
            raise ConfigError(f"the command line: {option} must stand before 'KEY VALUE' pairs.")
    if len(opts) % 2:
        raise ConfigError(f"options are 'KEY VALUE' pairs, but the last one has no value: {opts}.")
    _check_keys(opts[0::2], cfg, "the command line")
    with _wrong_types_named("the command line"):
        cfg.merge_from_list(opts)


@contextlib.contextmanager
def _wrong_types_named(where: str):
    """Make a ConfigError of what merging raises of types, and of the literals in texts."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(f"{where}: a value is of a wrong type. {first_line(error)}.") from error


def _load_yaml(path: str) -> CfgNode:
    try:
        loaded = _CautiousCfgNode.load_yaml_with_base(path)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: its _BASE_ '{error.filename}' does not exist.") from error
    except (yaml.YAMLError, TypeError) as error:
        message = _explain_python(error) or f"{path} is no valid YAML config: {error}"
        raise ConfigError(message) from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} is no valid YAML config: it holds no 'KEY: value' pairs.")
    return CfgNode(loaded)


def _explain_python(error: Exception) -> str | None:
    """Return what to do if it is Python that YAML refused, else None."""
    tag = re.search("tag:yaml.org,2002:(python/[^']*)", str(error))
    if tag is None:
        return None
    mark = error.problem_mark
    return (
        f"{mark.name}, line {mark.line + 1}: '!!{tag[1]}' is Python, which a YAML config may not "
        "run. Write a plain value, e.g. [1, 2] for a tuple, or a LazyConfig (.py)."
    )


def _check_keys(keys: list[str], cfg: CfgNode, where: str) -> None:
    known = _keys(cfg)
    for key in keys:
        if not key.startswith(_FOREIGN):
            look_up_option(key, known, f"{where}: config key", ConfigError)


def _keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    """All keys of a config as dotted paths, nodes included."""
    keys = []
    for name, value in cfg.items():
        keys.append(f"{prefix}{name}")
        if isinstance(value, CfgNode):
            keys.extend(_keys(value, f"{prefix}{name}."))
    return keys
