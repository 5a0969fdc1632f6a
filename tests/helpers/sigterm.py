"""A hook that stops a training as a scheduler does."""

import os
import signal

from detectron2.engine import HookBase


class SigtermAt(HookBase):
    """Sends itself SIGTERM in the middle of an iteration."""

    def __init__(self, iteration):
        self._iteration = iteration

    def before_step(self):
        if self.trainer.iter == self._iteration:
            os.kill(os.getpid(), signal.SIGTERM)
