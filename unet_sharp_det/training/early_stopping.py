"""Ending a training on all workers once the validation metric no longer improves."""

import contextlib
import logging
import math

from detectron2.engine import HookBase
from detectron2.utils import comm
from fvcore.common.checkpoint import Checkpointer

from ..errors import ConfigError
from .best_metric import latest_value, lower_is_better

_KEY = "TEST.EARLY_STOPPING (LazyConfig: train.early_stopping)"

logger = logging.getLogger(__name__)


class TrainingStopped(BaseException):
    """Leaves detectron2's training loop; caught by :func:`end_at_early_stop`.

    No Exception, which the loop would log as a failure with its traceback.
    """


@contextlib.contextmanager
def end_at_early_stop():
    """Let a training that :class:`EarlyStopping` stops return as if it had ended."""
    with contextlib.suppress(TrainingStopped):
        yield


class EarlyStopping(HookBase):
    """Stop after a number of evaluations in a row that did not improve a metric.

    Losses and errors improve when they fall, all else when it rises; NaN and infinity are no
    improvement. All workers stop after the same iteration, with ``model_final.pth`` written. The
    state is part of the checkpoints: a resumed run goes on counting, and one that had stopped
    stops at once, unless ``patience`` was raised. To be registered on every worker, after the
    hooks that evaluate and before the periodic checkpointer, which at a stop writes nothing more.
    """

    def __init__(
        self,
        eval_period: int,
        checkpointer: Checkpointer,
        metric: str,
        *,
        patience: int,
        min_delta: float = 0.0,
    ):
        """
        Args:
            eval_period: iterations between evaluations.
            checkpointer: writes ``model_final.pth``.
            metric: name in the main process' storage, see :func:`~.best_metric.latest_value`.
            patience: evaluations without improvement after which to stop.
            min_delta: by how much the best value must be exceeded to count as improved, in the
                metric's unit.

        Raises:
            ConfigError: a value is out of range, or nothing is evaluated during the training.
        """
        if patience < 1 or not 0 <= min_delta < math.inf:
            raise ConfigError(
                f"{_KEY}: the patience is {patience} evaluations (at least 1; 0 turns early "
                f"stopping off), the smallest improvement {min_delta} (at least 0)."
            )
        if eval_period < 1 or not metric:
            raise ConfigError(
                f"{_KEY} needs evaluations during the training: set TEST.EVAL_PERIOD (LazyConfig: "
                f"train.eval_period), now {eval_period}, and TEST.BEST_METRIC (train.best_metric), "
                f"now '{metric}'; or set the patience to 0."
            )
        self._period = eval_period
        self._checkpointer = checkpointer
        self._metric = metric
        self._patience = patience
        self._min_delta = min_delta
        self._sign = -1 if lower_is_better(metric) else 1
        self.best_value: float | None = None
        self.best_iter: int | None = None
        self.evaluations_since = 0

    def before_train(self) -> None:
        if self._is_out_of_patience():
            logger.info(
                f"{self._summary()} The run had stopped early, so it does not go on. To go on, "
                f"raise the patience, or set it to 0: {_KEY}."
            )
            raise TrainingStopped

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
            raise TrainingStopped

    def state_dict(self) -> dict:
        return {
            "metric": self._metric,
            "best_value": self.best_value,
            "best_iter": self.best_iter,
            "evaluations_since": self.evaluations_since,
        }

    def load_state_dict(self, state: dict) -> None:
        if state["metric"] == self._metric:
            self.best_value = state["best_value"]
            self.best_iter = state["best_iter"]
            self.evaluations_since = state["evaluations_since"]

    def _count(self) -> None:
        found = latest_value(self.trainer.storage, self._metric)
        if found is None:
            return
        value, iteration = found
        if self._improves(value):
            self.best_value, self.best_iter, self.evaluations_since = value, iteration, 0
        else:
            self.evaluations_since += 1

    def _improves(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        if self.best_value is None:
            return True
        return self._sign * (value - self.best_value) > self._min_delta

    def _is_out_of_patience(self) -> bool:
        """Whether to stop: what the main process, which alone knows the metric, says."""
        return comm.all_gather(self.evaluations_since >= self._patience)[0]

    def _summary(self) -> str:
        best = "no finite value"
        if self.best_value is not None:
            best = f"{self.best_value:.5g} at iteration {self.best_iter}"
        return f"Best {self._metric}: {best}; evaluations since then: {self.evaluations_since}."
