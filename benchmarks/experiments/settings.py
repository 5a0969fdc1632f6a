"""What a run was configured with, and how that differs from what its experiment says now."""

import functools

from detectron2.config import CfgNode

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.report.environment import flatten_config


def own_settings(config: str) -> dict[str, str]:
    """Return ``{KEY: value as text}`` of a dumped config, without what has its default."""
    defaults = _defaults()
    return {k: v for k, v in (flatten_config(config) or {}).items() if defaults.get(k) != v}


def describe_changes(settings: dict[str, str], cfg: CfgNode) -> list[str]:
    """Return a ``KEY: was A, now B`` for each key in which a config is not as it was.

    Args:
        settings: as it was, as of :func:`own_settings`. Keys that are not in it, those that were
            added since then among them, had their defaults of today.
        cfg: as it is.
    """
    old, new = {**_defaults(), **settings}, flatten_config(cfg.dump())
    return [
        f"{key}: was {old.get(key)}, now {new.get(key)}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


@functools.cache
def _defaults() -> dict[str, str]:
    return flatten_config(setup_cfg().dump())
