"""Feature maps that a skip scheme can run on."""

import itertools
from collections.abc import Sequence

from ..errors import ConfigError, look_up_option


def feature_shapes(available: dict, in_features: Sequence[str], key: str) -> list:
    """The shapes of the maps ``in_features``, finest first, whose strides double or repeat.

    Args:
        available: name -> shape of all maps that there are.
        in_features: names of at least two of them.
        key: the config key of ``in_features``, for messages.

    Raises:
        ConfigError: a name is unknown, or a stride is neither the one before nor twice it.
    """
    for name in in_features:
        look_up_option(name, available, key, ConfigError)
    shapes = [available[name] for name in in_features]
    strides = [shape.stride for shape in shapes]
    if len(shapes) < 2 or any(b not in (a, 2 * a) for a, b in itertools.pairwise(strides)):
        offered = ", ".join(f"{name} (stride {shape.stride})" for name, shape in available.items())
        raise ConfigError(
            f"{key} {list(in_features)} have strides {strides}; a skip scheme needs two or more "
            f"whose strides double or repeat. There are {offered}."
        )
    return shapes
