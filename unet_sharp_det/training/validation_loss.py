"""The training losses on validation data, without a trace in the training."""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterable

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DistributedDataParallel

from .stream import seeded

SEED = 0

logger = logging.getLogger(__name__)


class ValidationLoss:
    """The losses of a model on annotated images, as the mean over all images of all workers.

    It is deterministic: the anchors and proposals that a detector samples are drawn with the same
    seed for every image. Norm layers, and all modules without children, such as dropout, compute
    as at inference. Other modules stay in training mode, with what they drop themselves
    (``nn.MultiheadAttention``). Afterwards the model and the random numbers are as if nothing had
    happened, but for tensors that a module other than a norm changes in place. Images without
    objects count; a data set without any annotation is left out with a warning.

    Values are comparable over the iterations of a run. With training losses they are but in part:
    those had dropout, and RetinaNet's are over a running number of positive anchors *per batch*.
    """

    def __init__(self, model: nn.Module, loaders: dict[str, Iterable[list[dict]]]):
        """
        Args:
            model: one that returns a dict of losses, scalars, in training mode.
            loaders: by the name of their data set; each gives this worker's share of the images,
                mapped with their targets (``NucleiDatasetMapper(..., with_targets=True)``). With
                one image per batch the result does not depend on the number of workers.
        """
        self._model = model.module if isinstance(model, DistributedDataParallel) else model
        self._loaders = dict(loaders)
        self._is_single = len(self._loaders) == 1

    def __call__(self) -> dict:
        """Compute the losses; to be called by all workers.

        Returns:
            dict: ``{"validation": {<loss name>: value, "total_loss": their sum}}``, the same on
            all workers, as detectron2's ``EvalHook`` takes it; with several data sets
            ``{"validation": {<data set>: {<loss name>: ...}}}``.
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
    start = time.perf_counter()
    total, images, annotated = Counter(), 0, False
    for sums, count, any_annotated in comm.all_gather(_sum_losses(model, loader)):
        total.update(sums)  # `+` would drop losses of 0.
        images += count
        annotated |= any_annotated
    if not annotated:
        logger.warning(
            f"{name}: no image has an annotation, so there is no validation loss on it. Annotate "
            "it, or set TEST.VALIDATION_LOSS to False."
        )
        return None
    means = {loss: value / images for loss, value in total.items()}
    means["total_loss"] = sum(means.values())
    logger.info(
        f"Validation loss on {name}: {means['total_loss']:.4g}, mean over {images} images, "
        f"{time.perf_counter() - start:.1f} s."
    )
    return means


def _sum_losses(model: nn.Module, loader: Iterable[list[dict]]) -> tuple[Counter, int, bool]:
    """Return this worker's sums of losses, its images, and whether one has an annotation."""
    device = next(model.parameters()).device
    total, images, annotated = Counter(), 0, False
    # Detectors log what they sample: not into the storage of the training.
    with torch.no_grad(), EventStorage(), seeded(SEED, device=device), loss_mode(model):
        for batch in loader:
            batch = [record for record in batch if "instances" in record or "sem_seg" in record]
            if not batch:
                continue
            torch.manual_seed(SEED)
            with unchanged(model):
                losses = {name: float(loss) for name, loss in model(batch).items()}
            total.update({name: loss * len(batch) for name, loss in losses.items()})
            images += len(batch)
            annotated |= any(map(_is_annotated, batch))
    return total, images, annotated


def _is_annotated(record: dict) -> bool:
    if len(record.get("instances", ())) > 0:
        return True
    return "sem_seg" in record and bool(record["sem_seg"].any())


@contextlib.contextmanager
def unchanged(model: nn.Module):
    """Put back the attributes and buffers of all modules at the end: modes, and what they count.

    RetinaNet, for one, averages its number of positive anchors over the calls in training mode.
    What a module assigned is undone; what it changed in place is not.
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
    """Training mode, in which models return losses, for all but what computes otherwise in it.

    That are norms, and modules without children: dropout, stochastic depth, and the like.
    """
    with unchanged(model):
        model.train()
        for module in model.modules():
            is_leaf = next(module.children(), None) is None
            if module is not model and (is_leaf or isinstance(module, _NormBase)):
                module.eval()
        yield
