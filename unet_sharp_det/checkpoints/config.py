"""The config that a checkpoint was trained with: given, inside of the file, or beside it."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from detectron2.config import CfgNode

from ..addresses import address_of, local_path
from ..config import setup_cfg
from ..errors import ConfigError, first_line
from .sources import find_weights
from .weight_files import read_safetensors_config

#: A config of all keys has 25 kB of text and 1,000 values, at a depth of 4.
_MOST_TEXT, _MOST_VALUES, _MOST_DEPTH, _LONGEST_VALUE = 1 << 18, 20_000, 20, 1000
_LARGEST_NUMBER = 1e18
#: Of keys that end so: bounds of values that cost memory and time whatever the weights are.
_BOUNDS = {
    "INPUT.SCALE_TEST": (0, 8),
    "INPUT.MIN_SIZE_TEST": (1, 8192),
    "INPUT.MAX_SIZE_TEST": (1, math.inf),
    "SIZE_DIVISIBILITY": (0, 1024),
    "COMMON_STRIDE": (1, 64),
    "NUM_CONV": (0, 100),
    "NUM_CONVS": (0, 100),
    "NUM_FC": (0, 100),
    "POOLER_RESOLUTION": (1, 64),
    "POOLER_SAMPLING_RATIO": (0, 16),
    "DETECTIONS_PER_IMAGE": (1, 20_000),
    "POST_NMS_TOPK_TEST": (1, 50_000),
    "PRE_NMS_TOPK_TEST": (1, 100_000),
    "MODEL.PIXEL_MEAN": (-1e6, 1e6),
    "MODEL.PIXEL_STD": (1e-6, 1e6),
}


def config_of(weights, config_file=None, opts: Sequence[str] = ()) -> CfgNode:
    """Return the config of a checkpoint, which becomes its ``MODEL.WEIGHTS``.

    A config in or beside the checkpoint is a stranger's: it is read by itself, without ``_BASE_``,
    and may ask for no more memory and time than a network needs. Its ``MODEL.DEVICE`` is replaced
    by the first GPU.

    Args:
        weights: a .pth or .safetensors file, its address, or a name of
            :mod:`unet_sharp_det.model_zoo`.
        config_file: YAML of its training. None: the one inside of a .safetensors file, else
            ``config.yaml`` beside it.
        opts: keys and values in turn that change it.

    Raises:
        CheckpointError: there is no such checkpoint.
        ConfigError: there is no config, or it is no valid one.
    """
    path = find_weights(weights)
    given = str(config_file) if config_file is not None else _read_strangers(path, weights)
    cfg = setup_cfg(given, list(opts))
    cfg.MODEL.WEIGHTS = str(path)
    return cfg


def _read_strangers(path: Path, weights) -> CfgNode:
    """Read and check the config in the file of a checkpoint, or beside what names it."""
    where, text = path, None
    if path.suffix == ".safetensors":
        text = read_safetensors_config(path)
    if text is None:
        place = Path(weights) if address_of(weights) else path
        where = local_path(place.with_name("config.yaml"))
        if not where.is_file():
            raise ConfigError(f"{weights}: no config.yaml beside it. Name one by --config-file.")
        with where.open("rb") as file:
            text = file.read(_MOST_TEXT + 1).decode("utf-8", "replace")
    try:
        cfg = setup_cfg(_parse(text), ["MODEL.DEVICE", "cuda"])
        _check_values(cfg)
    except ConfigError as error:
        raise ConfigError(
            f"the config in {where}: {error} Name one of your own by --config-file."
        ) from error
    return cfg


class _PlainLoader(yaml.SafeLoader):
    """Reads what ``CfgNode.dump`` writes, which merges no mappings: that could grow without end."""

    def flatten_mapping(self, node) -> None:
        pass


def _parse(text: str) -> dict:
    if len(text) > _MOST_TEXT:
        raise ConfigError(f"it has more than {_MOST_TEXT} characters.")
    try:
        content = yaml.load(text, _PlainLoader)
    except Exception as error:  # of YAML, and of dates, numbers and depths out of range
        raise ConfigError(f"it is no plain YAML ({first_line(error)}).") from error
    if not isinstance(content, dict):
        raise ConfigError("it is no YAML of 'KEY: value' pairs.")
    for count, (value, depth) in enumerate(_walk(content)):
        if count > _MOST_VALUES or depth > _MOST_DEPTH:
            raise ConfigError("it has too many values, or they are too deep.")
        if isinstance(value, str) and not (value.isprintable() and len(value) <= _LONGEST_VALUE):
            raise ConfigError("a text is too long or not printable.")
        if isinstance(value, int | float) and not abs(value) < _LARGEST_NUMBER:
            raise ConfigError("a number is too large or not finite.")
    if "_BASE_" in content:
        raise ConfigError("it names another one (_BASE_), which is not read.")
    return content


def _walk(content) -> Iterator[tuple[object, int]]:
    """Yield keys and values with their depth; those behind several aliases each time."""
    waiting = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        yield value, depth
        if isinstance(value, dict):
            waiting += [(each, depth + 1) for pair in value.items() for each in pair]
        elif isinstance(value, list | tuple):
            waiting += [(each, depth + 1) for each in value]


def _check_values(cfg: CfgNode) -> None:
    """Check that values are of the kinds of the defaults, their lists no deeper, and in bounds."""
    default = _flat(setup_cfg())
    for key, value in _flat(cfg).items():
        kinds, depth = _kinds(value)
        expected, deepest = _kinds(default[key])
        expected.discard("NoneType")
        if expected and not (kinds <= expected and depth <= deepest):
            raise ConfigError(f"{key} is {value}, of another type than {default[key]}.")
        bounds = next((bounds for end, bounds in _BOUNDS.items() if key.endswith(end)), None)
        for number in value if isinstance(value, list | tuple) else [value]:
            is_number = isinstance(number, int | float)
            if bounds and not (is_number and bounds[0] <= number <= bounds[1]):
                raise ConfigError(f"{key} is {value}, but may be {bounds[0]} to {bounds[1]}.")


def _kinds(value) -> tuple[set[str], int]:
    """Of what kinds a value is, or those in its lists are; and how deep they lie."""
    leaves = [(each, depth) for each, depth in _walk(value) if not isinstance(each, list | tuple)]
    kinds = {"number" if isinstance(v, int | float) else type(v).__name__ for v, _ in leaves}
    return kinds, max((depth for _, depth in leaves), default=0)


def _flat(cfg: CfgNode, prefix: str = "") -> dict[str, object]:
    values = {}
    for key, value in cfg.items():
        is_node = isinstance(value, CfgNode)
        values |= _flat(value, f"{prefix}{key}.") if is_node else {f"{prefix}{key}": value}
    return values
