"""What a report was made with, and what its runs were configured with."""

import hashlib
import os

import yaml

from ..addresses import local_path
from ..config import flatten
from ..provenance import versions


def report_environment() -> dict[str, str]:
    """Return ``{what: version}`` of this machine, without its name."""
    return {**versions(), "CPU cores": str(os.cpu_count())}


def fingerprint(path) -> str:
    """Return the first 12 digits of the SHA-256 of a file, also at an address; "" for a folder."""
    path = local_path(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else ""


def config_differences(configs: list[str]) -> list[tuple[str, list[str]]]:
    """Return (key, its value in each config) of the keys that are not the same in all.

    Args:
        configs: YAML texts; one that is empty, cannot be read, or holds Python objects as
            LazyConfigs do, has "?" for every value.
    """
    flat = [flatten_config(config) for config in configs]
    if sum(found is not None for found in flat) < 2:
        return []
    keys = sorted({key for found in flat for key in found or ()})
    rows = [
        (key, ["?" if found is None else found.get(key, "not there") for found in flat])
        for key in keys
    ]
    return [(key, values) for key, values in rows if len(set(values) - {"?"}) > 1]


def flatten_config(config: str) -> dict[str, str] | None:
    """Return ``{dotted key: value as text}`` of a YAML text; None if it cannot be read."""
    try:
        content = yaml.safe_load(config)
        return flatten(content) if isinstance(content, dict) else None
    except Exception:  # PyYAML lets through what a value raises, such as the date 2020-13-45.
        return None
