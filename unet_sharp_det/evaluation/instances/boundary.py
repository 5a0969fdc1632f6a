"""Boundaries of objects, and how many of their pixels lie near the other map's boundaries."""

from dataclasses import dataclass

import cv2
import numpy as np

from ...errors import ConfigError


@dataclass(frozen=True)
class BoundaryCounts:
    """Numbers of boundary pixels of an image: predicted, true, and those of each near the other.

    ``alike``: whether both maps have objects, or neither has; an object that fills the image has
    no boundary.
    """

    pred: int
    pred_near: int
    true: int
    true_near: int
    alike: bool

    @classmethod
    def count(
        cls, predicted: np.ndarray, true: np.ndarray, tolerance: float = 2.0
    ) -> "BoundaryCounts":
        """Compare the boundaries of two instance maps.

        Args:
            predicted, true: integers (H, W), 0 the background.
            tolerance: pixels; a boundary pixel is near if its Euclidean distance to the nearest
                boundary pixel of the other map is at most this.

        Raises:
            ConfigError: the tolerance is negative.
        """
        if tolerance < 0:
            raise ConfigError(f"The boundary tolerance must be 0 or more pixels, not {tolerance}.")
        pred_edge, true_edge = inner_boundaries(predicted), inner_boundaries(true)
        return cls(
            pred=int(np.count_nonzero(pred_edge)),
            pred_near=_count_near(pred_edge, true_edge, tolerance),
            true=int(np.count_nonzero(true_edge)),
            true_near=_count_near(true_edge, pred_edge, tolerance),
            alike=bool(predicted.any() == true.any()),
        )

    @property
    def f1(self) -> float:
        """The harmonic mean of both shares of near pixels; of maps without any, 1 if alike."""
        if self.pred == 0 and self.true == 0:
            return float(self.alike)
        if self.pred_near == 0 or self.true_near == 0:
            return 0.0
        precision, recall = self.pred_near / self.pred, self.true_near / self.true
        return 2 * precision * recall / (precision + recall)


def inner_boundaries(labels: np.ndarray) -> np.ndarray:
    """Return bool (H, W): pixels of objects with another label above, below or beside them.

    The edge of the image is no boundary. This is scikit-image's ``find_boundaries(mode="inner")``.
    """
    edge = np.zeros(labels.shape, bool)
    for near, far in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = labels[near] != labels[far]
        edge[near] |= differs
        edge[far] |= differs
    return edge & (labels > 0)


def _count_near(edge: np.ndarray, other: np.ndarray, tolerance: float) -> int:
    reach = int(tolerance)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (rows**2 + columns**2 <= tolerance**2).astype(np.uint8)
    return int(np.count_nonzero(cv2.dilate(other.view(np.uint8), disk)[edge]))
