"""Joining what neighbouring tiles found: every object once, and whole.

Of an object that several tiles see whole, the detection of the tile in whose core it lies is kept.
An object larger than the overlap is cut by every tile; its pieces are united where they agree in
what two tiles see.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..masks.instances import SparseInstances, overlapping_pairs
from .tile_grid import Tile

#: Masks of two tiles that share this much of their union, or of the smaller one, are one object.
SAME_IOU = 0.4
SAME_SHARE = 0.7
#: Cut detections of which whole ones cover less than this share are pieces of other objects.
COVERED_SHARE = 0.5
#: Pixels by which the centres of an object's boxes in two tiles may differ.
SLACK = 8


@dataclass(frozen=True)
class _Pool:
    """The detections of all tiles, in the image's coordinates.

    Attributes:
        owners: int (N,), the tile of each.
        is_cut: bool (N,), whether it reaches an edge of its tile beyond which the image goes on.
        off_core: float (N,), pixels from its box' centre to its tile's core, 0 inside.
    """

    found: SparseInstances
    tiles: Sequence[Tile]
    owners: np.ndarray
    is_cut: np.ndarray
    off_core: np.ndarray


def merge_detections(
    shape: tuple[int, int],
    tiles: Sequence[Tile],
    parts: Sequence[SparseInstances],
    reach: int = 1,
    by_class: bool = True,
) -> SparseInstances:
    """Join the detections of overlapping tiles.

    Args:
        shape: (height, width) of the image.
        tiles: of one grid.
        parts: of each tile, in the image's coordinates.
        reach: an object at most this many pixels from an edge of its tile is taken as cut there.
        by_class: whether detections of different classes are different objects.

    Returns:
        every object once: as its tile sees it, or united from its pieces, with their highest score
        and the class of the largest.
    """
    pool = _gather(shape, tiles, parts, reach)
    pairs = overlapping_pairs(pool.found.boxes)
    pairs = pairs[_differ(pool.owners, pairs)]
    if by_class:
        pairs = pairs[~_differ(pool.found.classes, pairs)]
    masks = (pool.found.shared(i, j) for i, j in pairs)
    shared = np.array([np.count_nonzero(one & other) for one, other in masks], np.int64)
    whole = _choose_whole(pool, pairs, shared)
    pieces = _choose_pieces(pool, pairs, shared, whole)
    of_pieces = pairs[np.isin(pairs, pieces).all(axis=1)]
    groups = _groups(pieces, [pair for pair in of_pieces if _is_same_piece(pool, *pair)])
    groups = [group for group in groups if len(group) > 1 or pool.off_core[group[0]] == 0]
    united = unite(pool.found, groups, lambda scores, areas: scores.max())
    return SparseInstances.concatenate(shape, [pool.found.select(whole), united])


def sew_components(shape: tuple[int, int], parts: Sequence[SparseInstances]) -> SparseInstances:
    """Return the 4-connected components of an image from those of each of its tiles' cores.

    Args:
        shape: (height, width) of the image.
        parts: in the image's coordinates; united ones get the mean score over their pixels.
    """
    found = SparseInstances.concatenate(shape, parts)
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    pairs = overlapping_pairs(found.boxes + np.array([-1, -1, 1, 1]))
    touching = [
        (i, j)
        for i, j in pairs[_differ(owners, pairs) & ~_differ(found.classes, pairs)]
        if _touch(found, i, j)
    ]
    groups = _groups(np.arange(len(found)), touching)
    return unite(found, groups, lambda scores, areas: np.average(scores, weights=areas))


def unite(found: SparseInstances, groups: Sequence[np.ndarray], score: Callable) -> SparseInstances:
    """Return the union of each group of indices; ``score`` is of a group's scores and areas."""
    corners, masks, scores = [], [], []
    areas = found.areas
    for group in groups:
        x0, y0 = found.boxes[group, :2].min(axis=0)
        corners.append((y0, x0))
        masks.append(_in_region(found, group, [x0, y0, *found.boxes[group, 2:].max(axis=0)]))
        scores.append(score(found.scores[group], areas[group]))
    classes = [found.classes[group[areas[group].argmax()]] for group in groups]
    return SparseInstances.from_windows(found.shape, corners, masks, scores, classes)


def _gather(shape, tiles: Sequence[Tile], parts: Sequence[SparseInstances], reach: int) -> _Pool:
    found = SparseInstances.concatenate(shape, parts)
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    bounds = np.array([tile.bounds for tile in tiles])[owners]
    is_inner = np.array([tile.inner_edges for tile in tiles])[owners]
    is_cut = ((np.abs(found.boxes - bounds) <= reach) & is_inner).any(axis=1)
    cores = np.array([tile.core_bounds for tile in tiles])[owners]
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    outside = np.maximum(cores[:, :2] - centres, centres - cores[:, 2:]).max(axis=1)
    return _Pool(found, tiles, owners, is_cut, np.maximum(outside, 0))


def _choose_whole(pool: _Pool, pairs: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """Return the indices of the detections to keep as they are."""
    areas = pool.found.areas
    iou = shared / (areas[pairs].sum(axis=1) - shared)
    same = (iou >= SAME_IOU) | (shared >= SAME_SHARE * areas[pairs].min(axis=1))
    same &= _are_nearest(pool, pairs, iou)
    near = ~pool.is_cut & (pool.off_core <= SLACK)
    # Where the tile that answers for an object cuts it, one that sees it whole steps in.
    cut_own = pool.is_cut & (pool.off_core == 0)
    substitutes = np.zeros(len(pool.found), bool)
    for first, second in (pairs.T, pairs[:, ::-1].T):
        substitutes[first[same & cut_own[second]]] = True
    candidates = near | (substitutes & ~pool.is_cut)
    rivals: dict[int, list[int]] = {}
    for i, j in pairs[same & candidates[pairs].all(axis=1)].tolist():
        rivals.setdefault(i, []).append(j)
        rivals.setdefault(j, []).append(i)
    kept = candidates.copy()
    for index in np.lexsort((-pool.found.scores, pool.off_core)):
        if kept[index]:
            kept[rivals.get(index, [])] = False
    return np.flatnonzero(kept)


def _are_nearest(pool: _Pool, pairs: np.ndarray, iou: np.ndarray) -> np.ndarray:
    """Of two tiles' views of overlapping objects, which pairs are each other's most alike?"""
    is_nearest = np.ones(len(pairs), bool)
    for one, other in ((0, 1), (1, 0)):
        keys = pairs[:, one] * len(pool.tiles) + pool.owners[pairs[:, other]]
        _, groups = np.unique(keys, return_inverse=True)
        best = np.zeros(len(pairs))
        np.maximum.at(best, groups, iou)
        is_nearest &= iou >= best[groups]
    return is_nearest


def _choose_pieces(pool: _Pool, pairs: np.ndarray, shared: np.ndarray, whole: np.ndarray):
    """Return the indices of cut detections most of which no whole one covers."""
    is_whole = np.zeros(len(pool.found), bool)
    is_whole[whole] = True
    covered = np.zeros(len(pool.found), np.int64)
    for first, second in (pairs.T, pairs[:, ::-1].T):
        covers = is_whole[second]
        np.add.at(covered, first[covers], shared[covers])
    return np.flatnonzero(pool.is_cut & (covered < COVERED_SHARE * pool.found.areas))


def _is_same_piece(pool: _Pool, i: int, j: int) -> bool:
    both = np.array([pool.tiles[pool.owners[index]].bounds for index in (i, j)])
    region = np.concatenate([both[:, :2].max(axis=0), both[:, 2:].min(axis=0)])
    first, second = (_in_region(pool.found, [index], region) for index in (i, j))
    shared = np.count_nonzero(first & second)
    smaller = min(np.count_nonzero(first), np.count_nonzero(second))
    # A tile may see apart what meets beyond its edge: then one piece lies within the other.
    return shared >= SAME_SHARE * smaller > 0


def _differ(values: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return values[pairs[:, 0]] != values[pairs[:, 1]]


def _touch(found: SparseInstances, i: int, j: int) -> bool:
    """Whether two instances have pixels with a common edge."""
    starts = found.boxes[[i, j], :2].max(axis=0) - 1
    stops = found.boxes[[i, j], 2:].min(axis=0) + 1
    first, second = (_in_region(found, [index], [*starts, *stops]) for index in (i, j))
    return bool((ndimage.binary_dilation(first) & second).any())


def _in_region(found: SparseInstances, indices, region: Sequence[int]) -> np.ndarray:
    """Return the union of instances in the rectangle x0, y0, x1, y1: bool (y1 - y0, x1 - x0)."""
    x0, y0, x1, y1 = region
    return found.select(indices).paint(slice(y0, y1), slice(x0, x1)) > 0


def _groups(members: np.ndarray, edges: Sequence) -> list[np.ndarray]:
    """Part indices into the groups that the edges connect."""
    from scipy.cluster.hierarchy import DisjointSet  # of tiled images only: imports take a while

    groups = DisjointSet(members.tolist())
    for edge in edges:
        groups.merge(*edge)
    return [np.array(sorted(group)) for group in groups.subsets()]
