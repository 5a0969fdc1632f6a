"""Stopping a training when it is asked to, at a checkpoint that it goes on from."""

import logging
import signal
import sys

from detectron2.engine import HookBase
from detectron2.utils import comm
from fvcore.common.checkpoint import Checkpointer

STOPPED_STATUS = 75  # EX_TEMPFAIL of sysexits.h: try again, with --resume

logger = logging.getLogger(__name__)


def exit_on_sigterm() -> None:
    """Let SIGTERM end this program, in whose main thread it is called, with ``STOPPED_STATUS``."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED_STATUS))


class StopOnSignal(HookBase):
    """On SIGTERM, finish the iteration, save a checkpoint, and exit with ``STOPPED_STATUS``.

    The checkpoint is as the periodic ones. All workers stop after the same iteration, whichever
    was asked. After the last one ``model_final.pth`` is there, and SIGTERM ends the process at
    once, without the evaluation, which a resumed run does. To be registered on every worker, after
    all others.
    """

    def __init__(self, checkpointer: Checkpointer):
        self._checkpointer = checkpointer
        self._requested = False
        self._previous = None

    def before_train(self) -> None:
        if self.trainer.start_iter < self.trainer.max_iter:
            self._previous = signal.signal(signal.SIGTERM, self._note)

    def after_step(self) -> None:
        iteration = self.trainer.iter
        is_last = iteration + 1 >= self.trainer.max_iter
        if is_last:
            self.after_train()
        if not any(comm.all_gather(self._requested)):
            return
        if is_last:
            self.trainer.max_iter += 1  # EvalHook evaluates at the end of what is not cut off.
        elif comm.is_main_process():
            self._checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
        comm.synchronize()
        logger.info(f"Stopped by SIGTERM after iteration {iteration}; --resume goes on.")
        sys.exit(STOPPED_STATUS)

    def after_train(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
            self._previous = None

    def _note(self, signum, frame) -> None:
        self._requested = True
