"""What a report was made with, and what its runs were configured with."""

import hashlib
import os
from pathlib import Path

import yaml

from ..provenance import versions

_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "pycocotools",
    "faster-coco-eval",
    "opencv-python-headless",
    "matplotlib",
    "jinja2",
)

# Beside its own error PyYAML lets through what a value raises that is none of its kind, such as
# the date 2020-13-45; the last one is of a mapping that holds itself.
_UNREADABLE = (
    yaml.YAMLError,
    ValueError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
)


def report_environment() -> dict[str, str]:
    """Return ``{what: version}`` of this machine, without its name."""
    return {**versions(_PACKAGES), "CPU cores": str(os.cpu_count())}


def config_differences(configs: list[str]) -> list[tuple[str, list[str]]]:
    """Return (key, its value in each config) of the keys that are not the same in all.

    Args:
        configs: YAML texts; one that is empty, cannot be read, or holds Python objects as
            LazyConfigs do, has "?" for every value.
    """
    flat = [flatten_config(config) for config in configs]
    if sum(found is not None for found in flat) < 2:
        return []
    keys = dict.fromkeys(key for found in flat for key in found or ())
    rows = [(key, [_value(found, key) for found in flat]) for key in sorted(keys)]
    return [(key, values) for key, values in rows if len(set(values) - {"?"}) > 1]


def fingerprint(path) -> str:
    """Return the first 12 digits of a file's SHA-256; "" for a folder."""
    path = Path(path)
    if not path.is_file():
        return ""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def flatten_config(config: str) -> dict[str, str] | None:
    """Return ``{dotted key: value as text}`` of a YAML text; None if it cannot be read."""
    try:
        content = yaml.safe_load(config)
        return dict(_leaves(content, "")) if isinstance(content, dict) else None
    except _UNREADABLE:
        return None


def _leaves(node, prefix: str):
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, str(node)


def _value(found: dict[str, str] | None, key: str) -> str:
    return "?" if found is None else found.get(key, "not there")
