"""The measures of instance segmentation, each with its definition, source, unit and ties.

All are made of the same matching of each image (:class:`InstanceOverlap`). T are the true and P the
predicted objects, which do not overlap; TP are the pairs matched one to one at an IoU threshold t,
FP and FN the objects of P and T that are left. A measure is a ratio of two counts of an image:
``_image_mean`` is the mean of the ratios over the images, ``_pooled`` the ratio of the sums over
all images, in which images with many objects weigh more.

Measures of the foreground are made of :class:`PixelCounts`, of all objects or of a semantic label.

IoU >= t unless a definition says >: the two differ only where an IoU is exactly t.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from .overlap import InstanceOverlap
from .pixel_counts import PixelCounts

THRESHOLDS = tuple(float(t) for t in np.arange(10, 20) / 20)

# Objects with a larger IoU than this are parts of each other, for merges and splits.
MERGE_IOU = 0.1
_PERCENT, _OBJECTS = "percent", "objects per image"

# Numerator and denominator of an image, numbers or (K,): several ratios, whose mean counts. The
# definitions of INSTANCE_MEASURES say what the functions below return.
Ratio = Callable[[InstanceOverlap | PixelCounts], tuple]


@dataclass(frozen=True)
class Measure:
    """One number of a data set.

    Attributes:
        name: key in results.
        definition: of what, with the tie rule where it matters.
        source: publication or program that it is from.
        ratio: the counts of an image.
        by_image: whether images are averaged or pooled.
        empty: value of an image (or of all, pooled) where the denominator is 0; NaN: the image
            does not count.
        goal: the best value: the largest, the smallest, or "zero".
    """

    name: str
    definition: str
    source: str
    ratio: Ratio
    by_image: bool
    empty: float
    unit: str = _PERCENT
    goal: str = "largest"

    @property
    def scale(self) -> float:
        """Of a value in ``unit`` to the ratio."""
        return 100.0 if self.unit == _PERCENT else 1.0

    @property
    def description(self) -> str:
        """Definition, unit and source in a line."""
        source = f" [{self.source}]" if self.source else ""
        return f"{self.definition}; {self.unit}{source}"


def counts(overlap: InstanceOverlap, threshold: float, *, strict: bool = False) -> tuple:
    """Return the numbers of TP, FP and FN of an image."""
    matched = len(overlap.match(threshold, strict=strict))
    return matched, len(overlap.pred_areas) - matched, len(overlap.true_areas) - matched


def found_share(
    fp_weight: float, fn_weight: float, *thresholds: float, strict: bool = False
) -> Ratio:
    """TP / (TP + ``fp_weight`` FP + ``fn_weight`` FN) at each threshold."""

    def ratio(overlap):
        tp, fp, fn = np.array([counts(overlap, t, strict=strict) for t in thresholds], float).T
        return tp, tp + fp_weight * fp + fn_weight * fn

    return ratio


jaccard, f1 = partial(found_share, 1, 1), partial(found_share, 0.5, 0.5)


def panoptic_quality(overlap: InstanceOverlap) -> tuple:
    tp, fp, fn = counts(overlap, 0.5, strict=True)
    return matched_iou(overlap, strict=True)[0], tp + fp / 2 + fn / 2


def aggregated_jaccard(overlap: InstanceOverlap) -> tuple:
    """Kumar et al., Algorithm 1: the sums of intersections and of unions.

    Each true object is paired with the predicted one of largest IoU (of equal ones the first),
    which several may share; predicted objects in no pair add to the union, as do true ones that
    touch none.
    """
    order = np.lexsort((overlap.pred_index, -overlap.iou, overlap.true_index))
    _, first = np.unique(overlap.true_index[order], return_index=True)
    best = order[first]
    alone = np.delete(overlap.true_areas, overlap.true_index[best]).sum()
    unpaired = np.delete(overlap.pred_areas, overlap.pred_index[best]).sum()
    return overlap.shared[best].sum(), overlap.union[best].sum() + alone + unpaired


def matched_iou(overlap: InstanceOverlap, *, strict: bool = False) -> tuple:
    pairs = overlap.match(0.5, strict=strict)
    return overlap.iou[pairs].sum(), len(pairs)


def count_bias(overlap: InstanceOverlap) -> tuple:
    return len(overlap.pred_areas) - len(overlap.true_areas), 1


def merges(overlap: InstanceOverlap) -> tuple:
    return _several(overlap.pred_index[overlap.iou > MERGE_IOU]), 1


def splits(overlap: InstanceOverlap) -> tuple:
    return _several(overlap.true_index[overlap.iou > MERGE_IOU]), 1


def foreground_iou(counts: PixelCounts) -> tuple:
    return counts.shared, counts.true + counts.pred - counts.shared


def foreground_dice(counts: PixelCounts) -> tuple:
    return 2 * counts.shared, counts.true + counts.pred


def _several(indices: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(indices) > 1))


_AF1 = "Caicedo et al., Cytometry A 95, 2019"
_STARDIST = "StarDist's accuracy, Cellpose's average precision; Schmidt et al., MICCAI 2018"
_PQ = "Kirillov et al., CVPR 2019, Eq. 1"
_BOTH = "; an image without true and predicted objects counts as 100"
_EMPTY = "; 100 where both sets are empty, 0 where only one is"
_MEAN, _POOL = "mean over images of ", "over all images together: "
_ALL = "mean over t = .50, .55 .. .95 of "


def _mean(name, definition, source, ratio, empty=1.0, note=_BOTH) -> Measure:
    return Measure(name, _MEAN + definition + note, source, ratio, True, empty)


def _pair(name, definition, source, ratio, *, image_ratio=None, **empty) -> list[Measure]:
    """Return the mean over images of a ratio, and its pooled form."""
    mean = _mean(f"{name}_image_mean", definition, source, image_ratio or ratio, **empty)
    return [mean, Measure(f"{name}_pooled", _POOL + definition, source, ratio, False, mean.empty)]


def _pair_of_matched(name, definition, source, ratio) -> list[Measure]:
    """The same of a mean over TP."""
    note = "; images without a TP do not count"
    return _pair(name, definition, source, ratio, empty=np.nan, note=note)


def _pair_of_share(name, definition, ratio) -> list[Measure]:
    """The same of a share of the predicted or of the true objects."""

    def of_image(overlap):
        top, bottom = ratio(overlap)
        return top, np.where(bottom, bottom, len(overlap.true_areas) + len(overlap.pred_areas))

    note = "; 0 where only the other kind is there, no image without both counts"
    return _pair(name, definition, _STARDIST, ratio, image_ratio=of_image, empty=np.nan, note=note)


def _per_image(name, definition, source, ratio, goal="smallest") -> Measure:
    return Measure(name, _MEAN + definition, source, ratio, True, np.nan, _OBJECTS, goal)


_JACCARD = "TP / (TP + FP + FN)"
_F1 = "2 TP / (2 TP + FP + FN)"

INSTANCE_MEASURES: tuple[Measure, ...] = (
    _mean(
        "DSB_score",
        f"the {_ALL}{_JACCARD}, matched at IoU > t",
        "2018 Data Science Bowl; Caicedo et al., Nature Methods 16, 2019",
        jaccard(*THRESHOLDS, strict=True),
    ),
    *_pair("cell_AP", f"the {_ALL}{_JACCARD}, IoU >= t", _STARDIST, jaccard(*THRESHOLDS)),
    *(
        measure
        for t in THRESHOLDS
        for measure in _pair(
            f"cell_AP{100 * t:.0f}", f"{_JACCARD}, IoU >= {t:.2f}", _STARDIST, jaccard(t)
        )
    ),
    *_pair("PQ", "sum of IoU over TP / (TP + FP / 2 + FN / 2), IoU > .5", _PQ, panoptic_quality),
    *_pair_of_matched("SQ", "mean IoU over TP, IoU > .5", _PQ, partial(matched_iou, strict=True)),
    *_pair("RQ", "TP / (TP + FP / 2 + FN / 2), IoU > .5", _PQ, f1(0.5, strict=True)),
    *_pair(
        "AJI",
        "intersections / unions of each true object with the predicted one of largest IoU, "
        "predicted objects in no pair added to the unions",
        "Kumar et al., IEEE TMI 36(7), 2017, Algorithm 1",
        aggregated_jaccard,
    ),
    *_pair_of_matched("matched_IoU", "mean IoU over TP, IoU >= .5", "", matched_iou),
    *_pair("F1", f"the {_ALL}{_F1}, IoU > t", _AF1, f1(*THRESHOLDS, strict=True)),
    *_pair("F1_50", f"{_F1}, IoU >= .5", _STARDIST, f1(0.5)),
    *_pair_of_share("precision_50", "TP / (TP + FP), IoU >= .5", found_share(1, 0, 0.5)),
    *_pair_of_share("recall_50", "TP / (TP + FN), IoU >= .5", found_share(0, 1, 0.5)),
    _mean(
        "boundary_F1",
        "the harmonic mean of the share of predicted boundary pixels near a true one, and of true "
        "ones near a predicted one",
        "Csurka et al., BMVC 2013, for the boundaries of objects",
        lambda overlap: (overlap.boundary_f1, 1),
    ),
    _per_image("count_error", "| |P| - |T| |", "", lambda each: (abs(count_bias(each)[0]), 1)),
    _per_image("count_bias", "|P| - |T|", "", count_bias, "zero"),
    _per_image("merges", "predicted objects with IoU > .1 with several true ones", _AF1, merges),
    _per_image("splits", "true objects with IoU > .1 with several predicted ones", _AF1, splits),
)


#: Of P and G, the predicted and the true pixels of the foreground: name, definition and ratio.
FOREGROUND_RATIOS = (
    ("IoU", "|P & G| / |P | G|", foreground_iou),
    ("Dice", "2 |P & G| / (|P| + |G|)", foreground_dice),
)
FOREGROUND_MEASURES: tuple[Measure, ...] = tuple(
    measure
    for name, definition, ratio in FOREGROUND_RATIOS
    for measure in _pair(name, definition, "", ratio, note=_EMPTY)
)
