"""The metric that tells how good a checkpoint is: its value, its direction, the best checkpoint."""

import logging
import math
from collections.abc import Sequence

from detectron2.engine import hooks
from detectron2.utils.events import EventStorage
from fvcore.common.checkpoint import Checkpointer

from ..errors import ConfigError, look_up_option
from ..evaluation.instances.measures import INSTANCE_MEASURES

BEST_METRIC_KEY = "TEST.BEST_METRIC (LazyConfig: train.best_metric)"

logger = logging.getLogger(__name__)


def lower_is_better(metric: str) -> bool:
    """Whether ``metric``, named ``<task>/<name>``, is best when smallest, by its last part.

    That are losses, errors, and measures of instances that say so (merges, splits).

    Raises:
        ConfigError: the measure is best at 0 (count_bias).
    """
    name = metric.rpartition("/")[2]
    goals = {measure.name: measure.goal for measure in INSTANCE_MEASURES}
    if goals.get(name) == "zero":
        raise ConfigError(
            f"{BEST_METRIC_KEY}: '{metric}' is best at 0, neither large nor small. Take another, "
            "e.g. instances/count_error."
        )
    is_loss = "loss" in name.lower() or "error" in name.lower()
    return is_loss or goals.get(name) == "smallest"


def full_name(metric: str, datasets: Sequence[str]) -> str:
    """Return a metric's name among those of an evaluation on several data sets.

    Args:
        metric: ``<task>/<name>``, or "".
        datasets: of the evaluation.

    Returns:
        the metric of the first data set, as :func:`latest_value` takes it; of a single data set, or
        with a data set's name in it, the same.
    """
    parts = metric.split("/")
    if len(datasets) < 2 or len(parts) != 2:
        return metric
    task, name = parts
    named = [task, datasets[0], name] if task == "validation" else [datasets[0], task, name]
    logger.info(f"{BEST_METRIC_KEY}: '{metric}' is that of {datasets[0]}, the first data set.")
    return "/".join(named)


def latest_value(storage: EventStorage, metric: str) -> tuple[float, int] | None:
    """Return the value that the latest evaluation gave ``metric``, and its iteration.

    Args:
        storage: of the main process, after an evaluation.
        metric: ``<task>/<name>``; with several data sets ``<data set>/<task>/<name>``, or
            ``validation/<data set>/<name>`` of a loss.

    Returns:
        (value, iteration), or None if no metric was evaluated, which is logged: that happens on
        data without annotations.

    Raises:
        ConfigError: other metrics were evaluated, but not this one.
    """
    # Evaluations put their results unsmoothed and with a task, as nothing else does.
    known = [
        name for name, smoothed in storage.smoothing_hints().items() if "/" in name and not smoothed
    ]
    if not known:
        logger.warning(f"{BEST_METRIC_KEY}: no metric was evaluated, so not '{metric}' either.")
        return None
    look_up_option(metric, known, BEST_METRIC_KEY, ConfigError)
    return storage.latest()[metric]


class BestCheckpointer(hooks.BestCheckpointer):
    """Keep ``model_best.pth``, of the best metric so far, and remember that metric over a resume.

    Losses, errors and the like (:func:`lower_is_better`) are best when smallest, all else when
    largest; NaN and infinity never are. For the main process, after the hooks that evaluate and
    before the periodic checkpointer, which saves what this one remembers.
    """

    def __init__(self, eval_period: int, checkpointer: Checkpointer, metric: str):
        """
        Args:
            eval_period: iterations between evaluations; 0: only at the end.
            checkpointer: writes the file.
            metric: name in the storage, see :func:`latest_value`.
        """
        mode = "min" if lower_is_better(metric) else "max"
        super().__init__(eval_period, checkpointer, metric, mode)

    def _best_checking(self) -> None:
        found = latest_value(self.trainer.storage, self._val_metric)
        if found is not None and math.isfinite(found[0]):
            super()._best_checking()

    def state_dict(self) -> dict:
        return {
            "metric": self._val_metric,
            "best_metric": self.best_metric,
            "best_iter": self.best_iter,
        }

    def load_state_dict(self, state: dict) -> None:
        if state.get("metric", self._val_metric) == self._val_metric:
            self.best_metric = state["best_metric"]
            self.best_iter = state["best_iter"]
