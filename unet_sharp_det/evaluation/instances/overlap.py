"""What the objects of two instance maps share: one histogram, of which all measures are made."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ...errors import DatasetError
from ...masks.instance_maps import InstanceMap
from .pixel_counts import PixelCounts, boundary_f1


@dataclass(frozen=True)
class InstanceOverlap:
    """What the true and the predicted objects of an image share; small, whatever its size.

    Attributes:
        image_id, file_name: of the image.
        true_areas, pred_areas: integers (N,), (M,), pixels of each object.
        true_index, pred_index, shared: integers (K,): the pairs of objects, counted from 0, that
            have pixels in common, by true object then predicted one, and the number of the pixels.
        boundary_f1: see :func:`boundary_f1`.
    """

    image_id: int | str
    file_name: str
    true_areas: np.ndarray
    pred_areas: np.ndarray
    true_index: np.ndarray
    pred_index: np.ndarray
    shared: np.ndarray
    boundary_f1: float
    _matches: dict = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def count(
        cls,
        true: InstanceMap,
        predicted: InstanceMap,
        *,
        image_id: int | str,
        file_name: str = "",
        void: np.ndarray | None = None,
        boundary_tolerance: float = 2.0,
    ) -> "InstanceOverlap":
        """Compare two maps of an image.

        Args:
            void: bool (H, W), pixels that say nothing (COCO's crowd regions), see
                :func:`without_void`.
            boundary_tolerance: pixels, see :func:`boundary_f1`.

        Raises:
            DatasetError: the maps differ in size.
        """
        if true.labels.shape != predicted.labels.shape:
            raise DatasetError(
                f"Image {image_id} ({file_name}): the prediction has (height, width) "
                f"{predicted.labels.shape}, the ground truth {true.labels.shape}. Predict at that "
                "size, or resize the label map by nearest neighbour."
            )
        true, predicted = without_void(true, predicted, void)
        return cls(
            image_id,
            file_name,
            true.areas,
            predicted.areas,
            *shared_pixels(true, predicted),
            boundary_f1=boundary_f1(predicted.labels, true.labels, boundary_tolerance),
        )

    @cached_property
    def iou(self) -> np.ndarray:
        """float (K,), of each pair."""
        return self.shared / self.union

    @cached_property
    def union(self) -> np.ndarray:
        """integers (K,): |T | P| of each pair."""
        both = self.true_areas[self.true_index] + self.pred_areas[self.pred_index]
        return both - self.shared

    @cached_property
    def foreground(self) -> PixelCounts:
        """The counts of the unions of all objects."""
        sums = (int(self.shared.sum()), int(self.true_areas.sum()), int(self.pred_areas.sum()))
        return PixelCounts(*sums)

    def match(self, threshold: float, *, strict: bool = False) -> np.ndarray:
        """Pair objects one to one: as many as can be, as StarDist and Cellpose do it.

        Of several ways, which only thresholds up to .5 leave, that of the largest sum of IoU,
        to which pairs below the threshold count too.

        Args:
            threshold: pairs of IoU >= this may be matched; where ``strict`` of IoU > this.

        Returns:
            integers: the indices of the matched pairs, increasing.
        """
        key = (threshold, strict)
        if key not in self._matches:
            allowed = self.iou > threshold if strict else self.iou >= threshold
            pairs = np.flatnonzero(allowed)
            self._matches[key] = pairs if self._one_to_one(pairs) else self._assign(allowed)
        return self._matches[key]

    def _one_to_one(self, pairs: np.ndarray) -> bool:
        """Whether no object is in two of the pairs."""
        sides = (self.true_index[pairs], self.pred_index[pairs])
        return all(len(np.unique(side)) == len(side) for side in sides)

    def _assign(self, allowed: np.ndarray) -> np.ndarray:
        """Solve the assignment, in which a true object may stay alone, on a column of its own."""
        from scipy.sparse import csr_array  # Slow to import.
        from scipy.sparse.csgraph import min_weight_full_bipartite_matching

        true_count, pred_count = len(self.true_areas), len(self.pred_areas)
        gains = allowed + self.iou / (2 * max(1, min(true_count, pred_count)))
        rows = np.arange(true_count)
        places = (
            np.concatenate([self.true_index, rows]),
            np.concatenate([self.pred_index, pred_count + rows]),
        )
        # A gain is 1.5 at most, and no cost may be 0.
        costs = np.concatenate([2 - gains, np.full(true_count, 2.0)])
        graph = csr_array((costs, places), shape=(true_count, pred_count + true_count))
        _, matched = min_weight_full_bipartite_matching(graph)
        return np.flatnonzero(allowed & (matched[self.true_index] == self.pred_index))


def without_void(
    true: InstanceMap, predicted: InstanceMap, void: np.ndarray | None
) -> tuple[InstanceMap, InstanceMap]:
    """Clear void pixels, bool (H, W), in both maps.

    Predicted objects with more than half of their pixels there are left out, unless what is left of
    them matches a true object by IoU > .5: as in panoptic quality (Kirillov et al., CVPR 2019,
    Sec. 4.1).
    """
    if void is None or not void.any():
        return true, predicted
    true, left = (
        replace(each, labels=np.where(void, 0, each.labels)) for each in (true, predicted)
    )
    kept = 2 * left.areas >= predicted.areas
    kept[pairs_above_half(true, left)[1]] = True
    return true.keep(true.areas > 0), left.keep(kept)


def pairs_above_half(true: InstanceMap, predicted: InstanceMap) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the pairs of objects of IoU > .5; each object is in one at most."""
    i, j, shared = shared_pixels(true, predicted)
    above = 2 * shared > true.areas[i] + predicted.areas[j] - shared
    return i[above], j[above]


def shared_pixels(
    true: InstanceMap, predicted: InstanceMap
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``true_index``, ``pred_index`` and ``shared`` of :class:`InstanceOverlap`."""
    from scipy.sparse import csr_array  # Slow to import.

    in_both = (true.labels > 0) & (predicted.labels > 0)
    places = true.labels[in_both] - 1, predicted.labels[in_both] - 1
    ones, shape = np.ones(len(places[0]), int), (len(true), len(predicted))
    table = csr_array((ones, places), shape=shape).tocoo()  # Equal places are summed up.
    return table.row, table.col, table.data
