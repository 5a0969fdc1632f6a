"""Instances of a batch of windows from a model of pixels: components, or a watershed's."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from ..errors import ConfigError
from ..masks.instances import SparseInstances
from ..modeling.segmentation_head import SegmentationHead
from ..modeling.test_time_augmentation import VIEWS, View
from ..modeling.volume_segmentor import VolumeSegmentor
from ..modeling.watershed_segmentor import pixel_probabilities
from .detector import to_input
from .merging import merge_detections, sew_components
from .tile_grid import Tile


class Segmenter:
    """Runs a detectron2 ``SemanticSegmentor`` with :class:`SegmentationHead` on windows of images.

    The 4-connected components of every foreground channel are the objects, the mean probability of
    their pixels is the score, the channel's place among the foreground channels the class.
    """

    #: The least that an object can have.
    lowest_score = 0.5

    def __init__(self, model: nn.Module, score_threshold: float, views: Sequence[View] = VIEWS[:1]):
        """
        Args:
            model: in eval mode.
            score_threshold: of objects; up to ``lowest_score`` the pixels decide alone.
            views: in which each window is seen; of several the probabilities' mean is taken.

        Raises:
            ConfigError: the model has another semantic head, or takes volumes.
        """
        if isinstance(model, VolumeSegmentor):
            raise ConfigError(
                "VolumeSegmentor takes volumes, not images. Give scans to unet-sharp-det predict, "
                "or use VolumePredictor."
            )
        head = getattr(model, "sem_seg_head", None)
        if not isinstance(head, SegmentationHead):
            raise ConfigError(
                f"{type(head).__name__} names no objects: use UNetSharpHead or ExternalHead."
            )
        self.model = model
        self.views = views
        self.labels = head.labels
        self.least_score = score_threshold if score_threshold > self.lowest_score else 0.0

    def find(
        self,
        windows: Sequence[np.ndarray],
        tiles: Sequence[Tile],
        shape: tuple[int, int],
        scale: float,
        factor: int = 1,
    ) -> list[SparseInstances]:
        """As :meth:`.Detector.find`, but components in the core of each window only."""
        with torch.inference_mode():
            seen = [self._see(view, windows, scale, factor) for view in self.views]
            found = [torch.stack(each).mean(dim=0) for each in zip(*seen, strict=True)]
        return [self._objects(*each, shape) for each in zip(found, tiles, strict=True)]

    def _see(
        self, view: View, windows: Sequence[np.ndarray], scale: float, factor: int
    ) -> list[Tensor]:
        """Return the probabilities (C, H, W) that the view gives of the part of the image in each
        window (H / factor, W / factor, ...)."""
        turned = [view.apply(window) for window in windows]
        inputs = [
            {
                "image": to_input(each, scale * factor),
                "height": each.shape[0] * factor,
                "width": each.shape[1] * factor,
            }
            for each in turned
        ]
        return [
            torch.from_numpy(view.undo(each.float().cpu().numpy(), axes=(1, 2)))
            for each in pixel_probabilities(self.model, inputs)
        ]

    def join(
        self,
        tiles: Sequence[Tile],
        parts: Sequence[SparseInstances],
        shape: tuple[int, int],
        scale: float,
    ) -> SparseInstances:
        """Join what was found in the tiles of an image."""
        return sew_components(shape, parts)

    def _objects(self, probabilities: Tensor, tile: Tile, shape: tuple[int, int]):
        top, left = tile.core_rows.start, tile.core_columns.start
        rows = slice(top - tile.rows.start, tile.core_rows.stop - tile.rows.start)
        columns = slice(left - tile.columns.start, tile.core_columns.stop - tile.columns.start)
        probabilities = probabilities.float()[:, rows, columns]
        decided = self.labels.decide(probabilities[None])[0].cpu().numpy()
        probabilities = probabilities.cpu().numpy()
        found = []
        for number, channel in enumerate(self.labels.foreground_channels):
            labels, count = ndimage.label(decided[channel])
            scores = ndimage.mean(probabilities[channel], labels, np.arange(1, count + 1))
            of_channel = SparseInstances.from_label_map(labels, scores)
            of_channel.classes[:] = number
            found.append(of_channel)
        core = decided.shape[1:]
        return SparseInstances.concatenate(core, found).moved(top, left, shape)


class WatershedSegmenter(Segmenter):
    """Runs a :class:`.WatershedSegmentor` on whole windows of images.

    Where the edge of a tile cuts an object, the watershed is another than in the tile that sees it
    whole. So an object is taken from one tile, as a detector's is, not sewn from its parts.
    """

    lowest_score = 0.0

    def join(self, tiles, parts, shape, scale) -> SparseInstances:
        """See :meth:`Segmenter.join`."""
        return merge_detections(shape, tiles, parts, by_class=False)

    def _objects(self, probabilities: Tensor, tile: Tile, shape: tuple[int, int]):
        found = self.model.find_objects(probabilities)
        return found.moved(tile.rows.start, tile.columns.start, shape)
