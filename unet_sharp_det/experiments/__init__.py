"""Many trainings, compared: what ``tools/run_experiments.py`` runs and tabulates."""

from .experiment import Experiment, Run
from .scheduler import Scheduler
from .table import format_tables, write_zoo

__all__ = ["Experiment", "Run", "Scheduler", "format_tables", "write_zoo"]
