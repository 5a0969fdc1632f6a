"""What ``tools/benchmark.py`` measures: ratios between alternatives that take turns in one run."""

from .data import benchmark_anchors, benchmark_converter, benchmark_evaluation
from .measures import benchmark_measures
from .models import benchmark_detectors, benchmark_necks
from .prediction import benchmark_prediction
from .pruning import benchmark_pruning
from .unets import benchmark_counts, benchmark_unets

__all__ = [
    "benchmark_anchors",
    "benchmark_converter",
    "benchmark_counts",
    "benchmark_detectors",
    "benchmark_evaluation",
    "benchmark_measures",
    "benchmark_necks",
    "benchmark_prediction",
    "benchmark_pruning",
    "benchmark_unets",
]
