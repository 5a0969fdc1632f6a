"""Numbers of pixels that two maps of an image share: of their foreground, of their boundaries."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class PixelCounts:
    """Numbers of pixels of P & G, of G, of P, and of all that are valid.

    P are the predicted and G the true pixels of the foreground, among the valid ones.
    """

    shared: int
    true: int
    pred: int
    valid: int

    @classmethod
    def count(cls, predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> "PixelCounts":
        """Count bool masks of the same shape, of which only the pixels of ``valid`` count."""
        predicted, truth = predicted & valid, truth & valid
        sets = (predicted & truth, truth, predicted, valid)
        return cls(*(int(np.count_nonzero(pixels)) for pixels in sets))

    @property
    def background(self) -> "PixelCounts":
        """The counts of the other valid pixels."""
        union = self.true + self.pred - self.shared
        return PixelCounts(
            self.valid - union, self.valid - self.true, self.valid - self.pred, self.valid
        )


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
        """Compare the boundaries of two instance maps (H, W), 0 the background.

        A boundary pixel is near if its Euclidean distance to the nearest boundary pixel of the
        other map is at most the tolerance.
        """
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
        """The harmonic mean of both shares of near pixels; without boundaries 1 if alike."""
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
