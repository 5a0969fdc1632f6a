"""What two maps of an image share: pixels of their foreground, and of their boundaries."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class PixelCounts:
    """Numbers of pixels of P & G, of G and of P, the true and the predicted foreground."""

    shared: int
    true: int
    pred: int

    @classmethod
    def count(cls, predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> "PixelCounts":
        """Count bool masks of the same shape, of which only the pixels of ``valid`` count."""
        predicted, truth = predicted & valid, truth & valid
        sets = (predicted & truth, truth, predicted)
        return cls(*(int(np.count_nonzero(pixels)) for pixels in sets))


def boundary_f1(predicted: np.ndarray, true: np.ndarray, tolerance: float = 2.0) -> float:
    """Return the harmonic mean of the shares of boundary pixels that are near the other map's.

    Near is a Euclidean distance of at most the tolerance to the nearest one. Maps without any
    boundary, as of an object that fills the image, have 1 if both or neither have objects.

    Args:
        predicted, true: instance maps (H, W) or (D, H, W), 0 the background.
        tolerance: 0 to 100 pixels.
    """
    edges = inner_boundaries(predicted), inner_boundaries(true)
    if not edges[0].any() and not edges[1].any():
        return float(predicted.any() == true.any())
    precision, recall = _near_share(*edges, tolerance), _near_share(*edges[::-1], tolerance)
    return 2 * precision * recall / (precision + recall) if precision and recall else 0.0


def inner_boundaries(labels: np.ndarray) -> np.ndarray:
    """Return bool (H, W): pixels of objects with another label above, below or beside them.

    The edge of the image is no boundary. This is scikit-image's ``find_boundaries(mode="inner")``.
    """
    edge = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        near, far = ((np.s_[:],) * axis + (part,) for part in (np.s_[1:], np.s_[:-1]))
        differs = labels[near] != labels[far]
        edge[near] |= differs
        edge[far] |= differs
    return edge & (labels > 0)


def _near_share(edge: np.ndarray, other: np.ndarray, tolerance: float) -> float:
    if edge.ndim == 3:
        distance = (
            ndimage.distance_transform_edt(~other) if other.any() else np.full(edge.shape, np.inf)
        )
        return np.count_nonzero(distance[edge] <= tolerance) / max(1, np.count_nonzero(edge))
    reach = int(tolerance)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (rows**2 + columns**2 <= tolerance**2).astype(np.uint8)
    near = np.count_nonzero(cv2.dilate(other.view(np.uint8), disk)[edge])
    return near / max(1, np.count_nonzero(edge))
