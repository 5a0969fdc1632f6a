"""What accompanies a training beyond detectron2's hooks."""

import contextlib
import logging
import random
from collections.abc import Callable

import numpy as np
import torch
from detectron2.engine import HookBase, TrainerBase, hooks
from detectron2.utils import comm
from fvcore.common.checkpoint import Checkpointer

from ..errors import ConfigError, TrainingError, UserError, disk_error
from .best_metric import BEST_METRIC_KEY, BestCheckpointer
from .early_stopping import EarlyStopping


def build_validation_hooks(
    eval_period: int,
    checkpointer: Checkpointer,
    metric: str,
    *,
    validation_loss: Callable[[], dict] | None = None,
    patience: int = 0,
    min_delta: float = 0.0,
) -> list[HookBase]:
    """Build this worker's hooks that follow the evaluation.

    The periodic checkpointer comes after them, so that its files hold what they made of the
    evaluation; then the writers.

    Args:
        eval_period: iterations between evaluations; 0: only at the end.
        checkpointer: writes ``model_best.pth``, and ``model_final.pth`` at an early stop.
        metric: what they go by, see :func:`~.best_metric.latest_value`; "": keep no best one.
        validation_loss: :class:`~.validation_loss.ValidationLoss`, or None.
        patience, min_delta: of :class:`EarlyStopping`; patience 0: train to the end.

    Raises:
        ConfigError: see :class:`EarlyStopping`; or the metric is a validation loss, and there is
            none.
    """
    if metric.startswith("validation/") and validation_loss is None:
        raise ConfigError(
            f"{BEST_METRIC_KEY} is '{metric}', but no validation loss is computed: set "
            "TEST.VALIDATION_LOSS (LazyConfig: train.validation_loss) to True."
        )
    built = []
    if validation_loss is not None:
        built.append(hooks.EvalHook(eval_period, validation_loss))
    if metric and comm.is_main_process():
        built.append(BestCheckpointer(eval_period, checkpointer, metric))
    if patience != 0:
        stopping = {"patience": patience, "min_delta": min_delta}
        built.append(EarlyStopping(eval_period, checkpointer, metric, **stopping))
    return built


class SeedIterations(HookBase):
    """Seed the random numbers that the model draws by the iteration, so that a resumed training
    draws what it would have drawn. The images' are not its own: :class:`TrainingStream`."""

    def __init__(self, seed: int):
        """
        Args:
            seed: of the training; workers draw differently.
        """
        self._seed = seed

    def before_step(self) -> None:
        sequence = np.random.SeedSequence((self._seed, comm.get_rank(), self.trainer.iter))
        _seed_all(int(sequence.generate_state(1)[0]))


@contextlib.contextmanager
def explain_failure(key: str, learning_rate: float, output_dir: str):
    """Turn what ends a training into a TrainingError: a loss that diverged, a full disk.

    Args:
        key: the config's name of the learning rate.
        learning_rate: its value.
        output_dir: where the checkpoints are.
    """
    detectron2_logger = logging.getLogger(TrainerBase.__module__)
    detectron2_logger.addFilter(_is_unexplained)
    try:
        yield
    except FloatingPointError as error:
        raise TrainingError(
            f"{error} Training diverged. Lower {key} (now {learning_rate}), lengthen the warm-up, "
            f"or clip gradients. The checkpoints written before, if any, are in {output_dir}."
        ) from error
    except Exception as error:
        if full := disk_error(error):
            raise TrainingError(
                f"{full.filename or output_dir}: cannot be written ({full.strerror}). Make room "
                f"and go on with --resume: the checkpoints in {output_dir} stay."
            ) from error
        raise
    finally:
        detectron2_logger.removeFilter(_is_unexplained)


def _is_unexplained(record: logging.LogRecord) -> bool:
    """Whether a message has no traceback, or that of a defect."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, UserError | FloatingPointError) or disk_error(error))


def _seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
