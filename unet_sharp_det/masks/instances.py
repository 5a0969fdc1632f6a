"""The objects found in an image of any size: each as its box and the mask inside of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .rle import encode_mask, mask_pixels

if TYPE_CHECKING:
    from detectron2.structures import Instances


@dataclass(frozen=True)
class SparseInstances:
    """Instances whose memory grows with their boxes, not with the image.

    A long diagonal or netlike object takes as much as a full one of the same box.

    Attributes:
        shape: (height, width) of the image.
        boxes: int64 (N, 4), the first and the first no longer covered pixel: x0, y0, x1, y1.
        masks: N bool arrays (y1 - y0, x1 - x0).
        scores: float64 (N,).
        classes: int64 (N,), from 0.
    """

    shape: tuple[int, int]
    boxes: np.ndarray
    masks: list[np.ndarray]
    scores: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> "SparseInstances":
        """Return the instances of an image (height, width) without objects."""
        return cls(shape, np.zeros((0, 4), np.int64), [], np.zeros(0), np.zeros(0, np.int64))

    @classmethod
    def from_windows(
        cls,
        shape: tuple[int, int],
        corners: Sequence[tuple[int, int]],
        masks: Sequence[np.ndarray],
        scores: Sequence[float],
        classes: Sequence[int],
    ) -> "SparseInstances":
        """Cut every mask to its pixels; those without any vanish.

        Args:
            shape: (height, width) of the image.
            corners: (y, x) of each mask's first pixel in the image.
            masks: bool arrays (h, w) inside of the image.
        """
        kept, boxes, cut = [], [], []
        for index, ((top, left), mask) in enumerate(zip(corners, masks, strict=True)):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            if not rows.size:
                continue
            y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
            kept.append(index)
            boxes.append((left + x0, top + y0, left + x1, top + y1))
            cut.append(np.array(mask[y0:y1, x0:x1], bool))
        return cls(
            tuple(shape),
            np.array(boxes, np.int64).reshape(-1, 4),
            cut,
            np.asarray(scores, np.float64)[kept],
            np.asarray(classes, np.int64)[kept],
        )

    @classmethod
    def from_label_map(
        cls, labels: np.ndarray, scores: Sequence[float] | None = None
    ) -> "SparseInstances":
        """Return the objects 1, 2, ... of integers (H, W), in the order of their numbers.

        Args:
            labels: 0 is the background; numbers may be left out.
            scores: of the objects that there are. None: 1.
        """
        from scipy import ndimage  # It takes a while.

        parts = [(k, part) for k, part in enumerate(ndimage.find_objects(labels), 1) if part]
        corners = [(rows.start, columns.start) for _, (rows, columns) in parts]
        masks = [labels[part] == number for number, part in parts]
        scores = np.ones(len(parts)) if scores is None else scores
        return cls.from_windows(labels.shape, corners, masks, scores, np.zeros(len(parts)))

    @classmethod
    def from_rles(
        cls, rles: Sequence[dict], shape: tuple[int, int], scores: Sequence[float]
    ) -> "SparseInstances":
        """Return the masks that :func:`to_rles` gave, of class 0; those without pixels vanish."""
        corners, masks = [], []
        for pixels in mask_pixels(rles):
            x, y = np.divmod(pixels, shape[0])
            left, top = x.min(initial=shape[1]), y.min(initial=shape[0])
            mask = np.zeros((y.max(initial=top) + 1 - top, x.max(initial=left) + 1 - left), bool)
            mask[y - top, x - left] = True
            corners.append((top, left))
            masks.append(mask)
        return cls.from_windows(shape, corners, masks, scores, np.zeros(len(masks)))

    @classmethod
    def from_instances(cls, instances: "Instances") -> "SparseInstances":
        """Take what :meth:`to_instances` returns, or a detector with ``pred_masks`` (N, H, W)."""
        masks = instances.pred_masks.cpu().numpy()
        scores, classes = instances.scores.cpu().numpy(), instances.pred_classes.cpu().numpy()
        return cls.from_windows(instances.image_size, [(0, 0)] * len(masks), masks, scores, classes)

    @classmethod
    def concatenate(
        cls, shape: tuple[int, int], parts: Sequence["SparseInstances"]
    ) -> "SparseInstances":
        """Join instances that have the coordinates of the same image (height, width)."""
        parts = [cls.empty(shape), *parts]
        return cls(
            tuple(shape),
            np.concatenate([part.boxes for part in parts]),
            [mask for part in parts for mask in part.masks],
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.classes for part in parts]),
        )

    def select(self, chosen: np.ndarray) -> "SparseInstances":
        """Return the instances of an index or bool array, in its order."""
        indices = np.flatnonzero(chosen) if np.asarray(chosen).dtype == bool else chosen
        return replace(
            self,
            boxes=self.boxes[indices],
            masks=[self.masks[index] for index in indices],
            scores=self.scores[indices],
            classes=self.classes[indices],
        )

    def at_least(self, score: float) -> "SparseInstances":
        """Return those of at least this score."""
        return self.select(self.scores >= score)

    def moved(self, top: int, left: int, shape: tuple[int, int]) -> "SparseInstances":
        """Return them in the coordinates of an image in which theirs begins at (top, left)."""
        return replace(self, shape=shape, boxes=self.boxes + np.array([left, top, left, top]))

    @property
    def areas(self) -> np.ndarray:
        """int64 (N,), in pixels."""
        return np.array([np.count_nonzero(mask) for mask in self.masks], np.int64)

    def shared(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the masks i and j, bool views, in the rectangle that both boxes cover."""
        x0, y0 = np.maximum(self.boxes[i, :2], self.boxes[j, :2])
        x1, y1 = np.maximum(np.minimum(self.boxes[i, 2:], self.boxes[j, 2:]), (x0, y0))
        return tuple(
            _part(self.masks[index], self.boxes[index], (x0, y0, x1, y1)) for index in (i, j)
        )

    def without_overlaps(self, min_area: int = 0, max_covered: float = 1.0) -> "SparseInstances":
        """Sort by score, and give pixels that several objects cover to the highest score.

        Of equal scores the first one has them. Afterwards object k is number k + 1 of
        :meth:`label_map`.

        Args:
            min_area: objects that keep fewer pixels than this, or none, vanish; what they covered
                stays with them, so that the others do not depend on it.
            max_covered: objects that lose more than this share of their pixels vanish as if they
                had not been found (Panoptic FPN's overlap threshold, Kirillov et al. 2019, Sec. 4).
        """
        ranked = self.select(np.argsort(-self.scores, kind="stable"))
        rivals: dict[int, list[int]] = {}
        for above, below in overlapping_pairs(ranked.boxes).tolist():
            rivals.setdefault(below, []).append(above)
        areas = ranked.areas
        is_seen = np.ones(len(ranked), bool)
        visible = list(ranked.masks)
        for below, all_above in sorted(rivals.items()):
            above = ranked.select([each for each in all_above if is_seen[each]])
            x0, y0, x1, y1 = ranked.boxes[below]
            visible[below] = visible[below] & (above.paint(slice(y0, y1), slice(x0, x1)) == 0)
            left = np.count_nonzero(visible[below])
            is_seen[below] = areas[below] - left <= max_covered * areas[below]
        left = np.array([np.count_nonzero(mask) for mask in visible], np.int64)
        shown = replace(ranked, masks=visible).select(is_seen & (left >= max(1, min_area)))
        corners = shown.boxes[:, [1, 0]]
        return self.from_windows(self.shape, corners, shown.masks, shown.scores, shown.classes)

    def without_holes(self) -> "SparseInstances":
        """Fill what an object encloses, also where its pixels touch at corners only."""
        from scipy import ndimage  # It takes a while.

        return replace(self, masks=[ndimage.binary_fill_holes(mask) for mask in self.masks])

    def in_one_piece(self) -> "SparseInstances":
        """Keep the largest piece of each object; pixels that touch at corners are two."""
        masks = [_largest_piece(mask) for mask in self.masks]
        return self.from_windows(
            self.shape, self.boxes[:, [1, 0]], masks, self.scores, self.classes
        )

    def paint(self, rows: slice, columns: slice) -> np.ndarray:
        """Return a window of the label map: int32 (h, w), object k as k + 1.

        Where objects overlap the first one is seen. The slices may lead out of the image.
        """
        window = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.int32)
        x0, y0, x1, y1 = self.boxes.T
        inside = (x0 < columns.stop) & (x1 > columns.start) & (y0 < rows.stop) & (y1 > rows.start)
        for index in np.flatnonzero(inside)[::-1]:
            left, top, right, bottom = self.boxes[index]
            region = (
                *(max(left, columns.start), max(top, rows.start)),
                *(min(right, columns.stop), min(bottom, rows.stop)),
            )
            seen = _part(self.masks[index], self.boxes[index], region)
            _part(window, (columns.start, rows.start), region)[seen] = index + 1
        return window

    def label_map(self) -> np.ndarray:
        """Return int32 (H, W): 0 is the background, object k is k + 1."""
        return self.paint(slice(0, self.shape[0]), slice(0, self.shape[1]))

    def full_masks(self) -> np.ndarray:
        """Return bool (N, H, W): N times the image's pixels, for small images only."""
        full = np.zeros((len(self), *self.shape), bool)
        for canvas, mask, box in zip(full, self.masks, self.boxes, strict=True):
            _part(canvas, (0, 0), box)[:] = mask
        return full

    def to_rles(self) -> list[dict]:
        """Return COCO's compressed RLEs of the image's size, with ``counts`` as text."""
        return [
            encode_mask(mask, self.shape, top, left)
            for mask, (left, top, _, _) in zip(self.masks, self.boxes.tolist(), strict=True)
        ]

    def to_instances(self) -> "Instances":
        """Return detectron2's Instances: pred_boxes, pred_masks (N, H, W), scores, pred_classes."""
        import torch
        from detectron2.structures import Boxes, Instances

        instances = Instances(self.shape)
        instances.pred_boxes = Boxes(torch.from_numpy(self.boxes.astype(np.float32)))
        instances.pred_masks = torch.from_numpy(self.full_masks())
        instances.scores = torch.from_numpy(self.scores.astype(np.float32))
        instances.pred_classes = torch.from_numpy(self.classes.copy())
        return instances


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    return mask if count <= 2 else parts == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()


def _part(mask: np.ndarray, box: Sequence[int], region: Sequence[int]) -> np.ndarray:
    """Return the view of a mask, whose box or corner is given, in a rectangle inside of it."""
    left, top = box[:2]
    x0, y0, x1, y1 = region
    return mask[y0 - top : y1 - top, x0 - left : x1 - left]


def overlapping_pairs(boxes: np.ndarray) -> np.ndarray:
    """Return int64 (P, 2), sorted: the pairs i < j of boxes (N, 4) that share pixels."""
    from shapely import STRtree, box

    shrunk = boxes + np.array([0.25, 0.25, -0.25, -0.25])  # touching is not sharing
    rectangles = box(*shrunk.T)
    first, second = STRtree(rectangles).query(rectangles)
    pairs = np.stack([first, second], axis=1)[first < second].astype(np.int64)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
