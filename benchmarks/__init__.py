"""What ``tools/benchmark.py`` measures: ratios between alternatives that take turns in one run.

A benchmark is imported when it is asked for: what needs one module of this package need not have
the packages that all of them import.
"""

from importlib import import_module

_MODULES = {
    "benchmark_anchors": "data",
    "benchmark_converter": "data",
    "benchmark_counts": "unets",
    "benchmark_detectors": "models",
    "benchmark_evaluation": "data",
    "benchmark_measures": "measures",
    "benchmark_necks": "models",
    "benchmark_prediction": "prediction",
    "benchmark_pruning": "pruning",
    "benchmark_unets": "unets",
}

__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
