"""What accompanies a training beyond detectron2's hooks."""

import contextlib

from detectron2.engine import hooks

from ..errors import TrainingError


class BestCheckpointer(hooks.BestCheckpointer):
    """Keep the checkpoint with the best metric, and remember that metric over a resume."""

    def state_dict(self) -> dict:
        return {"best_metric": self.best_metric, "best_iter": self.best_iter}

    def load_state_dict(self, state: dict) -> None:
        self.best_metric = state["best_metric"]
        self.best_iter = state["best_iter"]


@contextlib.contextmanager
def explain_divergence(key: str, learning_rate: float, output_dir: str):
    """Turn detectron2's FloatingPointError of a diverged training into a TrainingError.

    Args:
        key: the config's name of the learning rate.
        learning_rate: its value.
        output_dir: where the checkpoints are.
    """
    try:
        yield
    except FloatingPointError as error:
        raise TrainingError(
            f"{error}\nTraining diverged. Lower {key} (now {learning_rate}), lengthen the warm-up, "
            f"or clip gradients. The checkpoints written before, if any, are in {output_dir}."
        ) from error
