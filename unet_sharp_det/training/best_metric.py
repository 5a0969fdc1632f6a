"""What goes by a metric of the validation: the best checkpoint, and early stopping."""

import logging
import math
from collections.abc import Callable, Sequence

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from fvcore.common.checkpoint import Checkpointer

from ..errors import ConfigError, look_up_option
from ..evaluation.instances.measures import INSTANCE_MEASURES

_METRIC = "TEST.BEST_METRIC (LazyConfig: train.best_metric)"
_STOPPING = "TEST.EARLY_STOPPING (LazyConfig: train.early_stopping)"

logger = logging.getLogger(__name__)


def build_validation_hooks(
    eval_period: int,
    checkpointer: Checkpointer,
    metric: str,
    *,
    validation_loss: Callable[[], dict] | None = None,
    patience: int = 0,
    min_delta: float = 0.0,
) -> list[HookBase]:
    """Build this worker's hooks that follow the evaluation, and precede the periodic checkpointer.

    Args:
        eval_period: iterations between evaluations; 0: only at the end.
        metric: what they go by, see :func:`latest_value`; "": keep no best one.
        validation_loss: :class:`~.validation_loss.ValidationLoss`, or None.
        patience, min_delta: of :class:`EarlyStopping`; patience 0: train to the end.

    Raises:
        ConfigError: a value is unusable, or the metric is a loss that is not computed.
    """
    if metric.startswith("validation/") and validation_loss is None:
        raise ConfigError(
            f"{_METRIC} is '{metric}', but no validation loss is computed. Set "
            "TEST.VALIDATION_LOSS (LazyConfig: train.validation_loss) to True."
        )
    built = []
    if validation_loss is not None:
        built.append(hooks.EvalHook(eval_period, validation_loss))
    if metric and comm.is_main_process():
        built.append(BestCheckpointer(eval_period, checkpointer, metric))
    if patience != 0:
        built.append(EarlyStopping(eval_period, checkpointer, metric, patience, min_delta))
    return built


def lower_is_better(metric: str) -> bool:
    """Whether the last part of a metric's name is a loss, an error, or a measure to be small."""
    name = metric.rpartition("/")[2]
    goals = {measure.name: measure.goal for measure in INSTANCE_MEASURES}
    if goals.get(name) == "zero":
        raise ConfigError(
            f"{_METRIC}: '{metric}' is best at 0. Take another, e.g. instances/count_error."
        )
    is_loss = "loss" in name.lower() or "error" in name.lower()
    return is_loss or goals.get(name) == "smallest"


def full_name(metric: str, datasets: Sequence[str]) -> str:
    """Return a metric's name in the storage; of several data sets, it is that of the first one."""
    parts = metric.split("/")
    if len(datasets) < 2 or len(parts) != 2:
        return metric
    task, name = parts
    named = [task, datasets[0], name] if task == "validation" else [datasets[0], task, name]
    logger.info(f"{_METRIC}: '{metric}' is that of {datasets[0]}, the first data set.")
    return "/".join(named)


def latest_value(storage: EventStorage, metric: str) -> tuple[float, int] | None:
    """Return the value that the latest evaluation gave ``metric``, and its iteration.

    Args:
        storage: of the main process, after an evaluation.
        metric: ``<task>/<name>``; with several data sets ``<data set>/<task>/<name>``, or
            ``validation/<data set>/<name>`` of a loss.

    Returns:
        None if no metric was evaluated, as on data without annotations.
    """
    # Evaluations put their results unsmoothed and with a task, as nothing else does.
    known = [
        name for name, smoothed in storage.smoothing_hints().items() if "/" in name and not smoothed
    ]
    if not known:
        logger.warning(f"{_METRIC}: no metric was evaluated, so not '{metric}' either.")
        return None
    look_up_option(metric, known, _METRIC, ConfigError)
    return storage.latest()[metric]


class BestCheckpointer(hooks.BestCheckpointer):
    """Keep ``model_best.pth``, of the best finite metric so far, which a resumed run remembers.

    For the main process.
    """

    def __init__(self, eval_period: int, checkpointer: Checkpointer, metric: str):
        mode = "min" if lower_is_better(metric) else "max"
        super().__init__(eval_period, checkpointer, metric, mode)

    def _best_checking(self) -> None:
        found = latest_value(self.trainer.storage, self._val_metric)
        if found is not None and math.isfinite(found[0]):
            super()._best_checking()

    def state_dict(self) -> dict:
        best = {"best_metric": self.best_metric, "best_iter": self.best_iter}
        return {"metric": self._val_metric, **best}

    def load_state_dict(self, state: dict) -> None:
        if state["metric"] == self._val_metric:
            self.best_metric = state["best_metric"]
            self.best_iter = state["best_iter"]


class EarlyStop(BaseException):
    """Leaves detectron2's training loop. No Exception, which it would log with a traceback."""


class EarlyStopping(HookBase):
    """Stop after a number of evaluations in a row that did not improve a metric.

    All workers, on each of which it is to be registered, raise :class:`EarlyStop` after the same
    iteration, with ``model_final.pth`` written. The checkpoints hold the state: a resumed run goes
    on counting, and one that had stopped stops at once, unless ``patience`` was raised.
    """

    def __init__(
        self,
        eval_period: int,
        checkpointer: Checkpointer,
        metric: str,
        patience: int,
        min_delta: float = 0.0,
    ):
        """
        Args:
            eval_period: iterations between evaluations.
            metric: see :func:`latest_value`.
            patience: evaluations without improvement after which to stop.
            min_delta: what an improvement must exceed, in the metric's unit.
        """
        if patience < 1 or not 0 <= min_delta < math.inf:
            raise ConfigError(
                f"{_STOPPING}: the patience is {patience}, the smallest improvement {min_delta}. "
                "Give at least 0 of each; a patience of 0 turns early stopping off."
            )
        if eval_period < 1 or not metric:
            raise ConfigError(
                f"{_STOPPING} needs evaluations during the training. Set TEST.EVAL_PERIOD, now "
                f"{eval_period}, and TEST.BEST_METRIC, now '{metric}', or the patience to 0."
            )
        self._period = eval_period
        self._checkpointer = checkpointer
        self._patience = patience
        self._min_delta = min_delta
        self._sign = -1 if lower_is_better(metric) else 1
        self._state = {"metric": metric, "best_value": None, "best_iter": None}
        self._state["evaluations_since"] = 0

    def before_train(self) -> None:
        if self._is_out_of_patience():
            logger.info(
                f"{self._summary()} The run had stopped early, so it does not go on. Raise the "
                f"patience to go on, or set it to 0: {_STOPPING}."
            )
            raise EarlyStop

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        # EvalHook leaves the last evaluation to after_train, where nothing is left to stop.
        if done % self._period != 0 or done >= self.trainer.max_iter:
            return
        if comm.is_main_process():
            self._count()
        if self._is_out_of_patience():
            self._checkpointer.save("model_final", iteration=self.trainer.iter)
            logger.info(f"{self._summary()} Stopped early at iteration {self.trainer.iter}.")
            raise EarlyStop

    def state_dict(self) -> dict:
        return dict(self._state)

    def load_state_dict(self, state: dict) -> None:
        if state["metric"] == self._state["metric"]:
            self._state.update(state)

    def _count(self) -> None:
        found = latest_value(self.trainer.storage, self._state["metric"])
        if found is None:
            return
        value, iteration = found
        best = self._state["best_value"]
        exceeds = best is None or self._sign * (value - best) > self._min_delta
        if exceeds and math.isfinite(value):
            self._state.update(best_value=value, best_iter=iteration, evaluations_since=0)
        else:
            self._state["evaluations_since"] += 1

    def _is_out_of_patience(self) -> bool:
        """Whether to stop: what the main process, which alone knows the metric, says."""
        return comm.all_gather(self._state["evaluations_since"] >= self._patience)[0]

    def _summary(self) -> str:
        best = "no finite value"
        if self._state["best_value"] is not None:
            best = "{best_value:.5g} at iteration {best_iter}".format_map(self._state)
        since = self._state["evaluations_since"]
        return f"Best {self._state['metric']}: {best}; evaluations since then: {since}."
