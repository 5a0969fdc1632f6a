"""Results by groups of true objects: by their size, their contact, and the look of the image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import counted
from ..evaluation.instances.measures import MERGE_IOU, THRESHOLDS, Measure
from ..evaluation.instances.overlap import InstanceOverlap, without_void
from ..evaluation.instances.results import MeasureTable
from ..masks.instance_maps import touches_another
from .collect import Method, RunReport
from .estimates import Estimates

# Of the objects of a group: definition, in percent.
OBJECT_MEASURES = {
    "recall": "share of the true objects that are matched, mean over IoU ≥ .50, .55 .. .95",
    "recall_50": "share of the true objects that are matched at IoU ≥ .5",
    "matched_IoU": "mean IoU of the true objects that are matched at IoU ≥ .5",
    "missed": "share of the true objects without any predicted one of IoU > .1",
    "precision_50": "share of the predicted objects, matched at IoU ≥ .5, by their own size",
}
#: Of the images of a look, too.
LOOK_MEASURES = ("DSB_score", "segm/AP", "PQ_image_mean", "AJI_image_mean")

_QUARTERS = ("smallest objects", "small objects", "large objects", "largest objects")
_GAP = 1  # pixel that may part objects that touch

# Of an image, by its row, the groups of its objects, integers from 0.
Groups = Callable[[int, InstanceOverlap], np.ndarray]


@dataclass(frozen=True)
class Grouping:
    """Which group each object is in.

    Attributes:
        title: a heading.
        groups: ``{name: extent}``: what reports call a group, and which objects it has, in words.
        of_true, of_predicted: the groups of an image's objects; None: of no predicted object.
        rows: of each group those of its images, where images are grouped as a whole.
    """

    title: str
    groups: dict[str, str]
    of_true: Groups
    of_predicted: Groups | None = None
    rows: Sequence[np.ndarray] = ()


@dataclass(frozen=True)
class Group:
    """The true objects of a group, and how well each method finds them.

    Attributes:
        name, extent: see :class:`Grouping`.
        objects, images: numbers of true objects, and of the images that they are in.
        estimates: of each method ``OBJECT_MEASURES``, of a look ``LOOK_MEASURES``, too.
    """

    name: str
    extent: str
    objects: int
    images: int
    estimates: list[Estimates]


@dataclass(frozen=True)
class Breakdown:
    """The groups of a :class:`Grouping`, and all their objects as a group."""

    title: str
    groups: list[Group]
    whole: Group


def by_size(overlaps: Sequence[InstanceOverlap]) -> Grouping:
    """Group objects by the quartiles of the areas of the true ones.

    An area on a bound is in the lower group. Between equal quartiles there is no group.
    """
    areas = np.concatenate([each.true_areas for each in overlaps])
    bounds = np.unique(np.quantile(areas, [0.25, 0.5, 0.75]).astype(int))
    extents = [f"{low + 1} to {high} px" for low, high in pairwise([0, *bounds])]
    names = [*_QUARTERS[: len(bounds)], _QUARTERS[-1]]
    return Grouping(
        "By size",
        dict(zip(names, [*extents, f"more than {bounds[-1]} px"], strict=True)),
        lambda _, overlap: np.digitize(overlap.true_areas, bounds, right=True),
        lambda _, overlap: np.digitize(overlap.pred_areas, bounds, right=True),
    )


def by_contact(run: RunReport) -> Grouping:
    """Group true objects by whether they touch another one."""
    groups = {
        "touching objects": f"{_GAP} pixel or less from another",
        "lone objects": "all others",
    }
    lone = []
    for overlap in run.results.overlaps:
        true, void = run.truth.instance_map(overlap.image_id), run.truth.void(overlap.image_id)
        lone.append(~touches_another(without_void(true, true, void)[0].labels, _GAP))
    return Grouping("By contact", groups, lambda row, _: lone[row].astype(int))


def by_look(looks: Sequence[str | None]) -> Grouping:
    """Group images, and their objects, by their looks; None: unknown."""
    found, group = np.unique([look or "unknown" for look in looks], return_inverse=True)
    rows = [np.flatnonzero(group == number) for number in range(len(found))]
    extents = [counted(len(each), "image") for each in rows]
    return Grouping(
        "By look of the image",
        dict(zip([f"{look} images" for look in found], extents, strict=True)),
        lambda row, overlap: np.full(len(overlap.true_areas), group[row]),
        lambda row, overlap: np.full(len(overlap.pred_areas), group[row]),
        rows,
    )


def break_down(methods: Sequence[Method], grouping: Grouping, weights: np.ndarray) -> Breakdown:
    """Evaluate the objects of each group.

    Args:
        methods: on the same images.
        weights: (B, N), samples of all images.
    """
    counts = [[_count_objects(run, grouping) for run in method.seeds] for method in methods]

    def evaluate(name: str, extent: str, number: int | None) -> Group:
        estimates = []
        for method, of_seeds in zip(methods, counts, strict=True):
            found = [_of_group(each, number, weights) for each in of_seeds]
            if grouping.rows and number is not None:
                of_images = (
                    _of_images(run, grouping.rows[number], weights) for run in method.seeds
                )
                found = [one | other for one, other in zip(found, of_images, strict=True)]
            estimates.append(Estimates.of_seeds(found))
        true = counts[0][0]["recall_50"][1]
        true = true.sum(axis=1) if number is None else true[:, number]
        return Group(name, extent, int(true.sum()), np.count_nonzero(true), estimates)

    groups = [evaluate(*each, number) for number, each in enumerate(grouping.groups.items())]
    return Breakdown(grouping.title, groups, evaluate("all objects", "", None))


def _of_group(counts: dict[str, tuple], number: int | None, weights: np.ndarray) -> Estimates:
    """Pool the counts of a group; None: of all."""
    measures = tuple(Measure(name, "", "", None, by_image=False, empty=np.nan) for name in counts)
    chosen = slice(None) if number is None else [number]
    parts = tuple(
        tuple(part[:, chosen].sum(axis=1, keepdims=True) for part in ratio)
        for ratio in counts.values()
    )
    # Samples of a single image with true objects, which all methods share, give no interval.
    several = np.count_nonzero(parts[0][1]) > 1
    return Estimates.of_table(MeasureTable(measures, parts), weights[: None if several else 0])


def _of_images(run: RunReport, rows: np.ndarray, weights: np.ndarray) -> Estimates:
    found = Estimates({}, {})
    for table in run.results.tables.values():
        found |= Estimates.of_table(table.select(rows), weights[:, rows])
    if "segm" in run.coco:
        value = run.coco["segm"].subset(rows)["AP"]
        found |= Estimates({"segm/AP": value}, {"segm/AP": np.zeros(0)})
    return found


def _count_objects(run: RunReport, grouping: Grouping) -> dict[str, tuple]:
    """Return ``{measure: (numerators (N, G), denominators (N, G))}`` of all images."""
    images = []
    for row, overlap in enumerate(run.results.overlaps):
        true = grouping.of_true(row, overlap)
        predicted = grouping.of_predicted and grouping.of_predicted(row, overlap)
        images.append(_count_in_image(overlap, true, predicted, len(grouping.groups)))
    return {name: np.array([each[name] for each in images]).swapaxes(0, 1) for name in images[0]}


def _count_in_image(
    overlap: InstanceOverlap, true: np.ndarray, predicted: np.ndarray | None, size: int
) -> dict[str, tuple]:
    def count(groups, values=None):
        return np.bincount(groups, values, minlength=size)

    pairs, everything = overlap.match(0.5), count(true)
    matched = np.concatenate([overlap.true_index[overlap.match(t)] for t in THRESHOLDS])
    found = true[overlap.true_index[pairs]]
    touched = np.zeros(len(true), bool)
    touched[overlap.true_index[overlap.iou > MERGE_IOU]] = True
    counts = {
        "recall": (count(true[matched]) / len(THRESHOLDS), everything),
        "recall_50": (count(found), everything),
        "matched_IoU": (count(found, overlap.iou[pairs]), count(found)),
        "missed": (count(true[~touched]), everything),
    }
    if predicted is not None:
        counts["precision_50"] = (count(predicted[overlap.pred_index[pairs]]), count(predicted))
    return counts
