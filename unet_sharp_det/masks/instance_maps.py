"""Instance maps: integers (H, W), 0 the background, every other number one object."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import DatasetError
from .instances import SparseInstances
from .rle import numbered, to_rles


@dataclass(frozen=True)
class InstanceMap:
    """The objects of an image, none of which overlap.

    Attributes:
        labels: int32 (H, W); 0 is the background, k the object k of 1..N.
        scores: float (N,), of these objects; 1 in ground truth.
    """

    labels: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def from_segmentations(
        cls,
        segmentations: Sequence,
        shape: tuple[int, int],
        where: str,
        scores: Sequence[float] | None = None,
        *,
        score_threshold: float = -np.inf,
        **options,
    ) -> "InstanceMap":
        """Paint COCO segmentations; of those that overlap, the highest score has the pixels.

        Of equal scores the first one has them, as COCO's evaluation ranks it first; without scores
        (ground truth) the last one. Objects of which no pixel is left vanish.

        Args:
            segmentations: polygons or RLEs.
            shape: (height, width) of the image.
            where: what the errors name.
            scores: one per segmentation.
            score_threshold: objects of at least this score count.
            options: of :meth:`SparseInstances.without_overlaps`.

        Raises:
            DatasetError: a segmentation is missing or of another size, a score is no number.
        """
        rles = to_rles(segmentations, shape, numbered(where))
        if scores is None:
            rles, scores, score_threshold = rles[::-1], np.ones(len(rles)), 1.0
        scores = _check_scores(scores, where)
        kept = np.flatnonzero(scores >= score_threshold)
        found = SparseInstances.from_rles([rles[index] for index in kept], shape, scores[kept])
        return cls.from_objects(found, where, **options)

    @classmethod
    def from_objects(
        cls,
        found: SparseInstances,
        where: str,
        *,
        score_threshold: float = -np.inf,
        **options,
    ) -> "InstanceMap":
        """Paint objects, as :meth:`from_segmentations` does."""
        _check_scores(found.scores, where)
        visible = found.at_least(score_threshold).without_overlaps(**options)
        return cls(visible.label_map(), visible.scores)

    @classmethod
    def from_labels(
        cls, labels: np.ndarray, where: str, *, min_area: int = 0, dim: int = 2
    ) -> "InstanceMap":
        """Number the objects of any label map (H, W) anew, in the order of their labels.

        With ``dim`` 3 the map, and all that is made of it, is (D, H, W).

        Numbers may be left out, and an object may have several parts; more than 65,535 objects
        need a map of 32 bits.

        Raises:
            DatasetError: the map is not (H, W), has no pixel, or holds other than whole numbers
                from 0 on.
        """
        from skimage.segmentation import relabel_sequential  # It takes a while.

        labels = _check_labels(np.asarray(labels), where, dim)
        numbered = relabel_sequential(labels)[0].astype(np.int32)
        found = cls(numbered, np.ones(numbered.max()))
        return found.keep(found.areas >= min_area) if min_area > 1 else found

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> "InstanceMap":
        """Return the map of an image (height, width) without objects."""
        return cls(np.zeros(shape, np.int32), np.zeros(0))

    @cached_property
    def areas(self) -> np.ndarray:
        """integers (N,): the numbers of pixels of the objects 1..N."""
        return np.bincount(self.labels.ravel(), minlength=len(self) + 1)[1:]

    def keep(self, kept: np.ndarray) -> "InstanceMap":
        """Return the map of the objects for which bool (N,) holds, in their order."""
        table = np.zeros(len(self) + 1, np.int32)
        table[1:][kept] = np.arange(1, np.count_nonzero(kept) + 1)
        return InstanceMap(table[self.labels], self.scores[kept])


def touches_another(labels: np.ndarray, gap: int = 0) -> np.ndarray:
    """Return bool (N,): whether an object touches another one, at a border or a corner.

    Args:
        labels: integers (H, W) or (D, H, W), 0 the background, 1 to N the objects.
        gap: pixels that may part the two.
    """
    from scipy import ndimage  # It takes a while.

    window, most = 2 * gap + 3, labels.max(initial=0)
    largest = ndimage.maximum_filter(labels, window)
    smallest = ndimage.minimum_filter(np.where(labels, labels, most), window)
    near = (labels > 0) & ((largest > labels) | (smallest < labels))
    return np.bincount(labels[near], minlength=most + 1)[1:] > 0


def _check_scores(scores: Sequence[float], where: str) -> np.ndarray:
    """Return float64 (N,): finite numbers."""
    values = np.asarray(scores, np.float64)
    for index in np.flatnonzero(~np.isfinite(values)):
        raise DatasetError(
            f"{where}: the score of mask {index} is {values[index]}. Give a finite number."
        )
    return values


def _check_labels(labels: np.ndarray, where: str, dim: int) -> np.ndarray:
    """Return whole numbers from 0 on."""
    if labels.ndim != dim:
        axes = "(height, width)" if dim == 2 else "(depth, height, width)"
        raise DatasetError(
            f"{where}: a label map must be {axes} with a number per object, not of shape "
            f"{labels.shape}. Save the labels as one channel of 16 or 32 bits, not as colours."
        )
    if not labels.size:
        raise DatasetError(f"{where}: the label map has no pixel, its shape is {labels.shape}.")
    kind = labels.dtype.kind
    if kind not in "biuf" or (kind == "f" and not (np.mod(labels, 1) == 0).all()):  # NaN is not
        raise DatasetError(f"{where}: the labels ({labels.dtype}) must be whole numbers.")
    if kind in "bf":
        labels = labels.astype(np.int64)
    if labels.min() < 0:
        raise DatasetError(
            f"{where}: the label {labels.min()} is negative; labels are 0 for the background and "
            "positive for objects. Signed 16 bits hold 32,767 objects: save 32 bits."
        )
    return labels
