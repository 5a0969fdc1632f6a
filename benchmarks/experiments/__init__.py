"""Many trainings, compared: what ``tools/run_experiments.py`` runs and tabulates."""

from benchmarks.experiments.experiment import Experiment, Run
from benchmarks.experiments.scheduler import Scheduler
from benchmarks.experiments.table import format_tables, write_zoo

__all__ = ["Experiment", "Run", "Scheduler", "format_tables", "write_zoo"]
