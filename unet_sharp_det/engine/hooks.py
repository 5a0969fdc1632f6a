"""Training hooks beyond detectron2's."""

from detectron2.engine import hooks


class BestCheckpointer(hooks.BestCheckpointer):
    """Keep the checkpoint with the best metric, and remember that metric over a resume."""

    def state_dict(self) -> dict:
        return {"best_metric": self.best_metric, "best_iter": self.best_iter}

    def load_state_dict(self, state: dict) -> None:
        self.best_metric = state["best_metric"]
        self.best_iter = state["best_iter"]
