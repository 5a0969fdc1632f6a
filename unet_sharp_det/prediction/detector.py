"""Instances of a batch of windows from a Mask R-CNN."""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.layers.mask_ops import _do_paste_mask
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Instances
from torch import Tensor, nn

from ..data.augmentation import ScaleBy
from ..errors import ConfigError
from ..masks.instances import SparseInstances
from ..modeling.test_time_augmentation import VIEWS, View, average
from .merging import merge_detections
from .proposals import choose_proposals, parts_of
from .tile_grid import Tile

#: Pixels of the network's input by which a mask may end before its object's cut edge.
_REACH = 4


class Detector:
    """Runs a detectron2 ``GeneralizedRCNN`` or ``PanopticFPN`` with masks on windows of images."""

    def __init__(self, model: nn.Module, score_threshold: float, views: Sequence[View] = VIEWS[:1]):
        """
        Args:
            model: in eval mode; the score threshold of its box heads is set to the one given.
            score_threshold: objects of at least this score are found.
            views: in which each window is seen; of several :func:`.average` is taken.

        Raises:
            ConfigError: the model predicts no masks.
        """
        roi_heads = getattr(model, "roi_heads", None)
        if not getattr(roi_heads, "mask_on", False):
            raise ConfigError(f"{type(model).__name__} predicts no masks: set MODEL.MASK_ON True.")
        # An object of a low score in one view may have a higher mean.
        threshold = score_threshold / 2 if len(views) > 1 else score_threshold
        for head in parts_of(model, FastRCNNOutputLayers):
            # detectron2 finds what is above it.
            head.test_score_thresh = float(np.nextafter(np.float32(threshold), -1))
        self.model = model
        self.views = views
        self.least_score = score_threshold
        self._adapt_limits = choose_proposals(model)

    def find(
        self,
        windows: Sequence[np.ndarray],
        tiles: Sequence[Tile],
        shape: tuple[int, int],
        scale: float,
        factor: int = 1,
    ) -> list[SparseInstances]:
        """Find the objects of each window.

        Args:
            windows: uint8 (h, w, C), all of one size.
            tiles: where they lie in an image of (height, width) ``shape``.
            scale: factor that the image is resized by before the network.
            factor: how many of its pixels along each side are one of the windows'.

        Returns:
            of each window, in the image's coordinates.
        """
        seen = [
            [
                view.undo_objects(each)
                for each in self._detect(list(map(view.apply, windows)), scale, factor)
            ]
            for view in self.views
        ]
        found = seen[0] if len(seen) == 1 else [average(each) for each in zip(*seen, strict=True)]
        return [
            each.moved(tile.rows.start, tile.columns.start, shape)
            for each, tile in zip(found, tiles, strict=True)
        ]

    def _detect(
        self, windows: Sequence[np.ndarray], scale: float, factor: int
    ) -> list[SparseInstances]:
        inputs = [{"image": to_input(window, scale * factor)} for window in windows]
        self._adapt_limits(inputs[0]["image"].shape[1:].numel())
        with torch.inference_mode():
            results = self.model.inference(inputs, do_postprocess=False)
        if isinstance(results, tuple):  # of PanopticFPN: detections and semantic maps
            results = results[0]
        height, width = (side * factor for side in windows[0].shape[:2])
        return [paste(result, (height, width)) for result in results]

    def join(
        self,
        tiles: Sequence[Tile],
        parts: Sequence[SparseInstances],
        shape: tuple[int, int],
        scale: float,
    ) -> SparseInstances:
        """Join what was found in the tiles of an image."""
        return merge_detections(shape, tiles, parts, reach=max(1, round(_REACH / scale)))


def to_input(window: np.ndarray, scale: float) -> Tensor:
    """Return uint8 (C, H', W') of a window (h, w, C)."""
    resized = ScaleBy([scale]).resize(*window.shape[:2], scale).apply_image(window)
    resized = resized if resized.ndim == 3 else resized[:, :, None]  # PIL drops a single channel.
    return torch.from_numpy(resized.transpose(2, 0, 1).copy())


def paste(found: Instances, shape: tuple[int, int]) -> SparseInstances:
    """Bring raw detections to the size of their window, each within its box.

    As detectron2's ``paste_masks_in_image``, without an image of memory for each object.

    Args:
        found: with ``pred_boxes`` in the network's pixels, ``pred_masks`` (N, 1, M, M)
            probabilities, ``scores`` and ``pred_classes``.
        shape: (height, width) of the window.
    """
    boxes = found.pred_boxes.clone()
    boxes.scale(shape[1] / found.image_size[1], shape[0] / found.image_size[0])
    boxes.clip(shape)
    kept = boxes.nonempty()
    boxes = boxes.tensor[kept].cpu()
    masks = found.pred_masks[kept].float().cpu()
    corners, pixels = [], []
    for mask, box in zip(masks, boxes, strict=True):
        (sampled,), (rows, columns) = _do_paste_mask(mask[None], box[None], *shape)
        corners.append((int(rows.start), int(columns.start)))
        pixels.append((sampled >= 0.5).numpy())
    scores, classes = found.scores[kept].cpu().numpy(), found.pred_classes[kept].cpu().numpy()
    return SparseInstances.from_windows(shape, corners, pixels, scores, classes)
