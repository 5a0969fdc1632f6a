"""Test-time augmentation: an image is seen flipped and turned, and what is found is averaged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN, PanopticFPN, SemanticSegmentor
from torch import Tensor, nn

from ..errors import ConfigError
from ..masks.instances import SparseInstances, overlapping_pairs
from .watershed_segmentor import WatershedSegmentor, pixel_probabilities

#: Masks of two views that share this much of their union are one object.
_SAME_IOU = 0.5


@dataclass(frozen=True)
class View:
    """A turn of the image by quarters, counterclockwise, and then a flip from left to right."""

    turns: int
    flip: bool

    def apply(self, array: np.ndarray, axes: tuple[int, int] = (0, 1)) -> np.ndarray:
        """What is seen of an array whose rows and columns are the ``axes``."""
        turned = np.rot90(array, self.turns, axes)
        return np.ascontiguousarray(np.flip(turned, axes[1]) if self.flip else turned)

    def undo(self, array: np.ndarray, axes: tuple[int, int] = (0, 1)) -> np.ndarray:
        """The opposite of :meth:`apply`."""
        straight = np.flip(array, axes[1]) if self.flip else array
        return np.ascontiguousarray(np.rot90(straight, -self.turns, axes))

    def undo_objects(self, found: SparseInstances) -> SparseInstances:
        """Bring what was found in the view to the image."""
        (height, width), boxes = found.shape, found.boxes
        if self.flip:
            boxes = _mirrored(boxes, width)
        for _ in range(self.turns):  # Back by a quarter: (y, x) becomes (x, height - y).
            boxes = _mirrored(boxes[:, [1, 0, 3, 2]], height)
            height, width = width, height
        masks = [self.undo(mask) for mask in found.masks]
        return replace(found, shape=(height, width), boxes=boxes, masks=masks)


#: The eight ways in which a square lies on itself; the first is the image as it is.
VIEWS = tuple(View(turns, flip) for flip in (False, True) for turns in range(4))


class AveragedViews(nn.Module):
    """A model that sees every image in :data:`VIEWS`: ``TEST.AUG`` of an evaluation.

    Of a detector the objects are averaged by :func:`average`, of a semantic model or a
    ``WatershedSegmentor`` the probabilities of the pixels.

    Args:
        model: in eval mode, a ``GeneralizedRCNN`` with masks or a ``SemanticSegmentor``; of others,
            such as ``VolumeSegmentor`` or ``PanopticFPN``, a ConfigError is raised.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        finds_masks = isinstance(model, GeneralizedRCNN) and model.roi_heads.mask_on
        is_averaged = finds_masks and not isinstance(model, PanopticFPN)
        if not (is_averaged or isinstance(model, SemanticSegmentor)):
            raise ConfigError(
                f"TEST.AUG is for Mask R-CNN and models of pixels, not for this "
                f"{type(model).__name__}. Set TEST.AUG.ENABLED False."
            )
        self.model = model

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        """Take and return what the model does: ``instances``, or ``sem_seg`` (C, H, W)."""
        if isinstance(self.model, GeneralizedRCNN):
            seen = [self._objects(view, batched_inputs) for view in VIEWS]
            averaged = [average(views) for views in zip(*seen, strict=True)]
            return [{"instances": found.to_instances()} for found in averaged]
        seen = [self._probabilities(view, batched_inputs) for view in VIEWS]
        means = [torch.stack(views).mean(dim=0) for views in zip(*seen, strict=True)]
        if isinstance(self.model, WatershedSegmentor):
            return [{"instances": self.model.find_objects(mean).to_instances()} for mean in means]
        return [{"sem_seg": mean} for mean in means]

    def _objects(self, view: View, batched_inputs: list[dict]) -> list[SparseInstances]:
        outputs = self.model([_seen(view, record) for record in batched_inputs])
        found = [SparseInstances.from_instances(output["instances"]) for output in outputs]
        return [view.undo_objects(each) for each in found]

    def _probabilities(self, view: View, batched_inputs: list[dict]) -> list[Tensor]:
        maps = pixel_probabilities(self.model, [_seen(view, record) for record in batched_inputs])
        return [torch.from_numpy(view.undo(each.cpu().numpy(), axes=(1, 2))) for each in maps]


def _seen(view: View, record: dict) -> dict:
    """Return a record of detectron2 whose image (C, H, W) is seen in a view."""
    image = record["image"]
    size = record.get("height", image.shape[1]), record.get("width", image.shape[2])
    height, width = size[::-1] if view.turns % 2 else size
    seen = torch.from_numpy(view.apply(image.numpy(), axes=(1, 2)))
    return {**record, "image": seen, "height": height, "width": width}


def average(views: Sequence[SparseInstances]) -> SparseInstances:
    """Join what was found of one image in several views.

    The best object gathers those of the other views, one of each at most, that are the same. Its
    pixels are those that at least half of them have, its score is their mean, where a view that
    lacks the object counts as 0.
    """
    pool = SparseInstances.concatenate(views[0].shape, views)
    owners = np.repeat(np.arange(len(views)), [len(view) for view in views])
    rivals: dict[int, list[tuple[float, int]]] = {}
    for i, j in overlapping_pairs(pool.boxes).tolist():
        if owners[i] != owners[j] and pool.classes[i] == pool.classes[j]:
            one, other = pool.shared(i, j)
            both = np.count_nonzero(one & other)
            iou = both / (np.count_nonzero(pool.masks[i]) + np.count_nonzero(pool.masks[j]) - both)
            if iou >= _SAME_IOU:
                rivals.setdefault(i, []).append((iou, j))
                rivals.setdefault(j, []).append((iou, i))
    is_free = np.ones(len(pool), bool)
    corners, masks, scores, classes = [], [], [], []
    for index in np.argsort(-pool.scores, kind="stable").tolist():
        if not is_free[index]:
            continue
        group = {owners[index]: index}
        for _, other in sorted(rivals.get(index, ()), reverse=True):
            if is_free[other]:
                group.setdefault(owners[other], other)
        members = list(group.values())
        is_free[members] = False
        corner, votes = _votes(pool, members)
        corners.append(corner)
        masks.append(2 * votes >= len(members))
        scores.append(pool.scores[members].sum() / len(views))
        classes.append(pool.classes[index])
    return SparseInstances.from_windows(pool.shape, corners, masks, scores, classes)


def _votes(pool: SparseInstances, members: list[int]) -> tuple[tuple[int, int], np.ndarray]:
    """How many of the masks have each pixel of a window, and the window's corner (y, x)."""
    x0, y0 = pool.boxes[members, :2].min(axis=0)
    x1, y1 = pool.boxes[members, 2:].max(axis=0)
    votes = np.zeros((y1 - y0, x1 - x0), np.uint8)
    for index in members:
        left, top, right, bottom = pool.boxes[index] - np.array([x0, y0, x0, y0])
        votes[top:bottom, left:right] += pool.masks[index]
    return (y0, x0), votes


def _mirrored(boxes: np.ndarray, width: int) -> np.ndarray:
    x0, y0, x1, y1 = boxes.T
    return np.stack([width - x1, y0, width - x0, y1], axis=1)
