"""Our measures against the programs that others publish numbers with, and against definitions.

The programs are those of setup.py's extra "peers". Where no program computes a measure, or where it
departs from the publication, the definition is written out below, pixel by pixel. With -s a table
of the largest differences is printed.

Where the originals and ours differ on purpose:

- An image without true and predicted objects has no score in cellpose (NaN) and counts 0 in
  StarDist; ours counts as 100 where a definition says so and else not at all (`empty`).
- An image without a match has a mean matched IoU of 0 in StarDist; ours does not count it.
- StarDist and torchmetrics round each IoU to 32 bits, cellpose its average precision.
- Cellpose's "aggregated Jaccard index" matches objects one to one and divides by the union of the
  foregrounds; ours is Kumar's, in which a missed object's error is counted per object.
"""

import numpy as np
import pytest
import torch
from label_map_pairs import random_pair, sample_pairs
from scipy.spatial.distance import cdist

from unet_sharp_det.evaluation.instances.measures import (
    INSTANCE_MEASURES,
    THRESHOLDS,
    counts,
)
from unet_sharp_det.evaluation.instances.overlap import InstanceOverlap
from unet_sharp_det.evaluation.instances.pixel_counts import inner_boundaries
from unet_sharp_det.evaluation.instances.results import MeasureTable
from unet_sharp_det.masks.instance_maps import InstanceMap

EXACT, BITS_32 = 1e-9, 1e-6
TOLERANCE = 2.0  # pixels, of the boundary


@pytest.fixture(scope="module", params=["random", "sample"])
def pairs(request):
    """(true, predicted) label maps."""
    if request.param == "random":
        return [random_pair(seed) for seed in range(12)]
    root = request.getfixturevalue("converted_sample")
    return sample_pairs(root / "annotations" / "dsb2018_val.json")


@pytest.fixture(scope="module")
def overlaps(pairs):
    return [overlap_of(*pair) for pair in pairs]


@pytest.fixture(scope="module")
def table(overlaps):
    return MeasureTable.of(overlaps, INSTANCE_MEASURES)


@pytest.fixture(scope="session")
def agree():
    """A function that asserts equality and remembers the largest difference, for the table."""
    rows = {}

    def agree(measure, original, ours, theirs, pairs, tolerance=EXACT):
        difference = np.abs(np.asarray(ours, float) - np.asarray(theirs, float)).max()
        largest, sets = rows.get((measure, original), (0.0, {}))
        rows[measure, original] = (max(largest, difference), {**sets, id(pairs): pairs})
        assert difference <= tolerance, f"{measure}: {ours}, {original}: {theirs}"

    yield agree
    print("\n\nmeasure | original | largest difference | images\n--- | --- | --- | ---")
    for (measure, original), (difference, sets) in rows.items():
        images = sum(map(len, sets.values()))
        print(f"{measure} | {original} | {difference:.1e} | {images}")


def overlap_of(true, predicted):
    maps = (InstanceMap.from_labels(labels, "test") for labels in (true, predicted))
    return InstanceOverlap.count(*maps, image_id=0, boundary_tolerance=TOLERANCE)


def summary_of(true, predicted):
    return MeasureTable.of([overlap_of(true, predicted)], INSTANCE_MEASURES).summary()


# StarDist


@pytest.fixture(scope="module", params=["iou", "iou in 64 bits"])
def stardist(request):
    """A function (pairs, thresholds, by_image) of StarDist's results, and their precision."""
    module = pytest.importorskip("stardist.matching")

    def iou_in_64_bits(overlap):
        sums = overlap.sum(axis=0, keepdims=True) + overlap.sum(axis=1, keepdims=True)
        return overlap / np.maximum(sums - overlap, 1)

    module.matching_criteria["iou in 64 bits"] = iou_in_64_bits

    def evaluate(pairs, thresholds, by_image):
        return module.matching_dataset(
            *zip(*pairs, strict=True),
            thresh=thresholds,
            by_image=by_image,
            criterion=request.param,
            show_progress=False,
        )

    yield evaluate, BITS_32 if request.param == "iou" else EXACT
    del module.matching_criteria["iou in 64 bits"]


def test_stardist_at_any_threshold(pairs, overlaps, stardist, agree):
    evaluate, precision = stardist
    thresholds, original = (0.1, 0.3, *THRESHOLDS), "StarDist's matching_dataset"
    for t, theirs in zip(thresholds, evaluate(pairs, thresholds, False), strict=True):
        ours = np.sum([counts(overlap, t) for overlap in overlaps], axis=0)
        assert ours.min() > 0
        agree("TP, FP, FN", original, ours, (theirs.tp, theirs.fp, theirs.fn), pairs, 0)
        mean = sum(overlap.iou[overlap.match(t)].sum() for overlap in overlaps) / ours[0]
        name = f"mean matched IoU, in {64 if precision == EXACT else 32} bits"
        agree(name, original, mean, theirs.mean_matched_score, pairs, precision)


NAMED = {
    "cell_AP50": ("accuracy", 0.5),
    "cell_AP75": ("accuracy", 0.75),
    "cell_AP95": ("accuracy", 0.95),
    "F1_50": ("f1", 0.5),
    "precision_50": ("precision", 0.5),
    "recall_50": ("recall", 0.5),
    "matched_IoU": ("mean_matched_score", 0.5),
}


@pytest.mark.parametrize("suffix", ["pooled", "image_mean"])
def test_stardist_by_our_names(pairs, table, stardist, suffix, agree):
    evaluate, precision = stardist
    ours, original = table.summary(), "StarDist's matching_dataset"
    theirs = dict(zip(THRESHOLDS, evaluate(pairs, THRESHOLDS, suffix != "pooled"), strict=True))
    for name, (key, t) in NAMED.items():
        if key == "mean_matched_score":
            assert abs(ours[f"{name}_{suffix}"] / 100 - theirs[t].mean_matched_score) <= precision
        else:
            value = ours[f"{name}_{suffix}"] / 100
            agree(f"{key}_{suffix}", original, value, getattr(theirs[t], key), pairs)
    name, mean = f"cell_AP_{suffix}", np.mean([one.accuracy for one in theirs.values()])
    agree(name, "mean of StarDist's accuracy", ours[name] / 100, mean, pairs)


# Cellpose


def test_cellpose_average_precision(pairs, overlaps, table, agree):
    metrics = pytest.importorskip("cellpose.metrics")
    ap, *numbers = metrics.average_precision(*map(list, zip(*pairs, strict=True)), list(THRESHOLDS))
    for column, t in enumerate(THRESHOLDS):
        ours = np.array([counts(overlap, t) for overlap in overlaps])
        theirs = np.stack(numbers)[:, :, column].T
        agree("TP, FP, FN of each image", "Cellpose's average_precision", ours, theirs, pairs, 0)
        ours = table.image_values(f"cell_AP{100 * t:.0f}_image_mean") / 100
        agree(
            "cell_APxx_image_mean of each image",
            "Cellpose's average_precision",
            ours,
            ap[:, column],
            pairs,
            1e-7,
        )


# torchmetrics


@pytest.fixture
def double_precision():
    """torchmetrics divides integers, which gives numbers of torch's default type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def panoptic_quality_metric():
    """torchmetrics' PQ, SQ and RQ of the objects, beside which the background is stuff."""
    detection = pytest.importorskip("torchmetrics.detection")
    return detection.PanopticQuality(
        things={1}, stuffs={0}, return_sq_and_rq=True, return_per_class=True
    )


def points(true, predicted):
    """(predicted, true) as torchmetrics takes them, without the pixels that are no object's."""
    either = (true > 0) | (predicted > 0)
    for labels in (predicted[either], true[either]):
        yield torch.from_numpy(np.stack([labels > 0, labels], axis=-1))[None]


def test_torchmetrics_panoptic_quality(pairs, table, double_precision, agree):
    metric = panoptic_quality_metric()
    each = np.array([metric(*points(*pair))[0].numpy() for pair in pairs])
    original = "torchmetrics' PanopticQuality"
    for index, name in enumerate(("PQ", "SQ", "RQ")):
        ours = table.summary()[f"{name}_pooled"] / 100
        agree(f"{name}_pooled", original, ours, metric.compute()[0, index], pairs)
        ours = table.image_values(f"{name}_image_mean") / 100
        agree(f"{name}_image_mean of each image", original, ours, each[:, index], pairs)


# Definitions, written out


def iou_matrix(true, predicted):
    """IoU of each true object (rows) with each predicted one, from their masks."""
    trues = [true == number for number in np.unique(true[true > 0])]
    preds = [predicted == number for number in np.unique(predicted[predicted > 0])]
    return np.array([[(t & p).sum() / (t | p).sum() for p in preds] for t in trues])


def dsb_score(iou):
    """The 2018 Data Science Bowl: a hit is an IoU above t, which no two objects can share."""
    scores = []
    for t in THRESHOLDS:
        hits = (iou > t).sum()
        misses, extra = ((iou > t).sum(axis=axis) == 0 for axis in (1, 0))
        scores.append(hits / (hits + misses.sum() + extra.sum()))
    return np.mean(scores)


def mean_f1(iou):
    """Caicedo et al., Cytometry A 2019: F1 at each t, of hits as above."""
    hits = np.array([(iou > t).sum() for t in THRESHOLDS])
    return np.mean(2 * hits / sum(iou.shape))


def merges_and_splits(iou):
    """Caicedo et al., Cytometry A 2019: predicted (true) objects that cover several others."""
    covers = iou > 0.1
    return (covers.sum(axis=0) > 1).sum(), (covers.sum(axis=1) > 1).sum()


def kumar_aji(true, predicted):
    """Kumar et al., IEEE TMI 2017, Algorithm 1, for each true object over all predicted ones.

    It does not say what a true object that touches none is paired with: here with none.
    """
    preds = [predicted == number for number in np.unique(predicted[predicted > 0])]
    intersection, union, used = 0, 0, set()
    for number in np.unique(true[true > 0]):
        mask = true == number
        shares = [(mask & p).sum() / (mask | p).sum() for p in preds]
        best = int(np.argmax(shares))
        if shares[best] == 0:
            union += mask.sum()
            continue
        intersection += (mask & preds[best]).sum()
        union += (mask | preds[best]).sum()
        used.add(best)
    union += sum(p.sum() for index, p in enumerate(preds) if index not in used)
    return intersection / union


def boundary_pixels(labels):
    """Pixels of objects with a neighbour above, below or beside that is not of their object."""
    height, width = labels.shape
    return np.array(
        [
            (row, column)
            for row, column in np.argwhere(labels > 0)
            for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0))
            if 0 <= row + down < height and 0 <= column + right < width
            if labels[row + down, column + right] != labels[row, column]
        ]
    )


def boundary_f1(true, predicted):
    """Csurka et al., BMVC 2013: from all distances between the boundary pixels of both maps."""
    true_pixels, pred_pixels = (
        np.unique(boundary_pixels(labels), axis=0) for labels in (true, predicted)
    )
    near = cdist(true_pixels, pred_pixels) <= TOLERANCE
    recall, precision = (near.any(axis=axis).mean() for axis in (1, 0))
    return 2 * precision * recall / (precision + recall)


def test_definitions(pairs, table, agree):
    matrices = [iou_matrix(*pair) for pair in pairs]
    expected = {
        "DSB_score": ("2018 Data Science Bowl", [dsb_score(iou) for iou in matrices]),
        "F1_image_mean": ("Caicedo et al. 2019", [mean_f1(iou) for iou in matrices]),
        "AJI_image_mean": ("Kumar et al. 2017, Algorithm 1", [kumar_aji(*p) for p in pairs]),
        "boundary_F1": ("brute force over distances", [boundary_f1(*p) for p in pairs]),
    }
    for name, (original, theirs) in expected.items():
        ours = table.image_values(name) / 100
        agree(f"{name} of each image", original, ours, theirs, pairs)
    merged, split = np.transpose([merges_and_splits(iou) for iou in matrices])
    assert merged.sum()
    assert split.sum()
    for name, theirs in (("merges", merged), ("splits", split)):
        ours = table.image_values(name)
        agree(f"{name} of each image", "Caicedo et al. 2019", ours, theirs, pairs, 0)


def test_boundaries_are_scikit_images_inner_ones(pairs, agree):
    segmentation = pytest.importorskip("skimage.segmentation")
    original = "scikit-image's find_boundaries"
    for labels in (labels for pair in pairs for labels in pair):
        theirs = segmentation.find_boundaries(labels, mode="inner")
        agree("boundary pixels", original, inner_boundaries(labels), theirs, pairs, 0)


# Ties


def row_of(*lengths):
    """A map of one row of pixels with objects of these lengths, negative ones background."""
    numbers = np.cumsum([length > 0 for length in lengths]) * (np.array(lengths) > 0)
    return np.repeat(numbers, np.abs(lengths))[None]


def test_an_iou_of_exactly_a_half_matches_where_the_original_says_so():
    true, predicted = row_of(4, -2), row_of(2, -4)
    stardist = pytest.importorskip("stardist.matching").matching(true, predicted, thresh=0.5)
    panoptic_quality = panoptic_quality_metric()(*points(true, predicted))[0, 0]
    ours = summary_of(true, predicted)
    assert ours["cell_AP50_pooled"] == 100 * stardist.accuracy == 100
    assert ours["PQ_pooled"] == 100 * panoptic_quality.item() == 0
    assert ours["DSB_score"] == 100 * dsb_score(iou_matrix(true, predicted)) == 0
