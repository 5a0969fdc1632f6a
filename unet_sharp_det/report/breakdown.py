"""Results by groups of images (their look) and of objects (their size)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.instances.measures import MERGE_IOU
from ..evaluation.instances.overlap import InstanceOverlap
from ..evaluation.instances.results import resample
from .collect import RunReport
from .estimates import Estimates

# Of the objects of a size: definition, in percent.
SIZE_MEASURES = {
    "recall_50": "share of the true objects that are matched at IoU ≥ .5",
    "recall_75": "share of the true objects that are matched at IoU ≥ .75",
    "matched_IoU": "mean IoU of the true objects that are matched at IoU ≥ .5",
    "missed": "share of the true objects without any predicted one of IoU > .1",
    "precision_50": "share of the predicted objects, by their own size, matched at IoU ≥ .5",
}


@dataclass(frozen=True)
class Group:
    """The images of a look, or the objects of a range of areas.

    Attributes:
        name: what reports call it.
        extent: how many images, or which areas, in words.
        objects: number of true objects.
        estimates: of each run. Of a look all measures and COCO's AP of masks ("segm/AP", without an
            interval), of an area ``SIZE_MEASURES``.
        predicted: number of predicted objects of each run, of an area.
    """

    name: str
    extent: str
    objects: int
    estimates: list[Estimates]
    predicted: Sequence[int] = ()


def by_look(runs: Sequence[RunReport], looks: Sequence[str | None], samples: int) -> list[Group]:
    """Evaluate the images of each look by themselves.

    Args:
        runs: on the same images.
        looks: of each image; None: unknown.
        samples: number of bootstrap samples of the images of a look.
    """
    names = np.array([look or "unknown" for look in looks])
    groups = []
    for look in sorted(set(names)):
        rows = np.flatnonzero(names == look)
        weights = resample(len(rows), samples)
        objects = sum(len(runs[0].results.overlaps[row].true_areas) for row in rows)
        estimates = [_estimates_of_images(run, rows, weights) for run in runs]
        extent = "1 image" if len(rows) == 1 else f"{len(rows)} images"
        groups.append(Group(look, extent, objects, estimates))
    return groups


def _estimates_of_images(run: RunReport, rows: np.ndarray, weights: np.ndarray) -> Estimates:
    found = Estimates({}, {})
    for table in run.results.tables.values():
        found |= Estimates.of_table(table.select(rows), weights)
    if "segm" in run.coco:
        value = run.coco["segm"].subset(run.coco_rows[rows])["AP"]
        found |= Estimates({"segm/AP": value}, {"segm/AP": np.zeros(0)})
    return found


def by_size(
    runs: Sequence[RunReport], bounds: Sequence[float], names: Sequence[str], samples: int
) -> list[Group]:
    """Evaluate the objects of each bin of area; a true object counts by its own area.

    Args:
        runs: on the same images.
        bounds: K - 1 increasing areas in pixels that part K bins; an area on a bound is in the
            lower bin.
        names: of the K bins.
        samples: number of bootstrap samples of the images.
    """
    weights = resample(len(runs[0].images), samples)
    counts = []
    for run in runs:
        images = [_count_objects(overlap, np.asarray(bounds)) for overlap in run.results.overlaps]
        counts.append({key: np.array([image[key] for image in images]) for key in SIZE_MEASURES})
    areas = [f"{int(a) + 1} to {int(b)} px" for a, b in zip([0, *bounds], bounds, strict=False)]
    areas.append(f"more than {bounds[-1]:g} px")
    bins = []
    for number, name in enumerate(names):
        ratios = [{key: each[..., number].T for key, each in of_run.items()} for of_run in counts]
        objects = int(ratios[0]["recall_50"][1].sum())
        predicted = [int(of_run["precision_50"][1].sum()) for of_run in ratios]
        estimates = [Estimates.of_ratios(of_run, weights, scale=100.0) for of_run in ratios]
        bins.append(Group(name, areas[number], objects, estimates, predicted))
    return bins


def _count_objects(overlap: InstanceOverlap, bounds: np.ndarray) -> dict[str, tuple]:
    """Return ``{measure: (numerators, denominators)}`` of an image, each by bin."""

    def count(bins, values=None):
        return np.bincount(bins, values, minlength=len(bounds) + 1)

    true_bins = np.digitize(overlap.true_areas, bounds, right=True)
    pred_bins = np.digitize(overlap.pred_areas, bounds, right=True)
    pairs, close_pairs = overlap.match(0.5), overlap.match(0.75)
    found, everything = true_bins[overlap.true_index[pairs]], count(true_bins)
    touched = np.zeros(len(true_bins), bool)
    touched[overlap.true_index[overlap.iou > MERGE_IOU]] = True
    return {
        "recall_50": (count(found), everything),
        "recall_75": (count(true_bins[overlap.true_index[close_pairs]]), everything),
        "matched_IoU": (count(found, overlap.iou[pairs]), count(found)),
        "missed": (count(true_bins[~touched]), everything),
        "precision_50": (count(pred_bins[overlap.pred_index[pairs]]), count(pred_bins)),
    }


def quartiles_of_area(run: RunReport) -> list[float]:
    """Return the areas in pixels that part all true objects into four parts; [] without any."""
    areas = np.concatenate([overlap.true_areas for overlap in run.results.overlaps])
    return [] if not len(areas) else np.quantile(areas, [0.25, 0.5, 0.75]).tolist()
