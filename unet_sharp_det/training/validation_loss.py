"""The training losses on validation data, without a trace in the training."""

import contextlib
import logging
from collections import Counter
from collections.abc import Iterable

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from .stream import seeded

SEED = 0

logger = logging.getLogger(__name__)


class ValidationLoss:
    """The losses of a model on annotated images, as the mean over all images of all workers.

    It is deterministic: what a detector samples is drawn with the same seed for every image. Norm
    layers, and all modules without children, such as dropout, compute as at inference; others
    stay in training mode, with what they drop themselves (``nn.MultiheadAttention``). Afterwards
    the model and the random numbers are as before, but for tensors that a module other than a norm
    changes in place. Images without objects count; a data set without any annotation is left out
    with a warning. Training losses are comparable in part: they had dropout, and RetinaNet's are
    over a running number of positive anchors *per batch*.
    """

    def __init__(self, model: nn.Module, loaders: dict[str, Iterable[list[dict]]]):
        """
        Args:
            model: one that returns a dict of losses, scalars, in training mode.
            loaders: by the name of their data set; each gives this worker's share of the images,
                in batches of one, mapped ``with_targets``.
        """
        self._model = getattr(model, "module", model)
        self._loaders = dict(loaders)
        self._is_single = len(self._loaders) == 1

    def __call__(self) -> dict:
        """Compute the losses; to be called by all workers, who all get them.

        Returns:
            ``{"validation": {<loss name>: value, "total_loss": their sum}}``; with several data
            sets ``{"validation": {<data set>: {<loss name>: ...}}}``.
        """
        results = {}
        for name, loader in list(self._loaders.items()):
            losses = _mean_losses(self._model, loader, name)
            if losses is None:
                del self._loaders[name]
            else:
                results[name] = losses
        if self._is_single:
            results = next(iter(results.values()), {})
        return {"validation": results}


def _mean_losses(model: nn.Module, loader: Iterable[list[dict]], name: str) -> dict | None:
    """Average over the images of all workers; None if none of them has an annotation."""
    total = Counter()
    for sums in comm.all_gather(_sum_losses(model, loader)):
        total.update(sums)  # `+` would drop losses of 0.
    images, annotated = total.pop("images"), total.pop("annotated")
    if not annotated:
        logger.warning(
            f"{name}: no image has an annotation, so there is no validation loss on it. Annotate "
            "it, or set TEST.VALIDATION_LOSS to False."
        )
        return None
    means = {loss: value / images for loss, value in total.items()}
    means["total_loss"] = sum(means.values())
    logger.info(f"Validation loss on {name}: {means['total_loss']:.4g}, mean over {images} images.")
    return means


def _sum_losses(model: nn.Module, loader: Iterable[list[dict]]) -> Counter:
    """This worker's sums of losses, and how many ``images`` it has, and ``annotated`` ones."""
    device = next(model.parameters()).device
    total = Counter(images=0, annotated=0)
    # Detectors log what they sample: not into the storage of the training.
    with torch.no_grad(), EventStorage(), seeded(SEED, device=device), loss_mode(model):
        for batch in loader:
            batch = [record for record in batch if "instances" in record or "sem_seg" in record]
            if not batch:
                continue
            torch.manual_seed(SEED)
            with unchanged(model):
                losses = model(batch)
            total.update({name: float(loss) * len(batch) for name, loss in losses.items()})
            total.update(images=len(batch), annotated=sum(map(_is_annotated, batch)))
    return total


def _is_annotated(record: dict) -> bool:
    has_labels = "sem_seg" in record and bool(record["sem_seg"].any())
    return has_labels or len(record.get("instances", ())) > 0


@contextlib.contextmanager
def unchanged(model: nn.Module):
    """Put back the attributes and buffers that modules assign: modes, and what they count.

    RetinaNet, for one, averages its number of positive anchors over the calls in training mode.
    """
    saved = [(module, dict(vars(module)), dict(module._buffers)) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes, buffers in saved:
            vars(module).clear()
            vars(module).update(attributes)
            module._buffers.clear()
            module._buffers.update(buffers)


@contextlib.contextmanager
def loss_mode(model: nn.Module):
    """Training mode, in which models return losses, but for norms and modules without children:
    dropout, stochastic depth, and the like."""
    with unchanged(model):
        model.train()
        for module in model.modules():
            is_leaf = next(module.children(), None) is None
            if module is not model and (is_leaf or isinstance(module, _NormBase)):
                module.eval()
        yield
