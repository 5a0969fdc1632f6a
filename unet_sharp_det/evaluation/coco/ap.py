"""COCO's average precision of a list of results, and of any resample of its images.

The metrics are those of the COCO detection evaluation (https://cocodataset.org/#detection-eval),
with the limit of detections per image and the area bins as arguments. Detections are matched once;
a bootstrap or a subset of the images accumulates the matches of its images anew.
"""

import contextlib
import copy
import functools
import importlib.metadata
import io
import itertools
import logging
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ...data.coco_json import is_finite
from ...errors import ConfigError, DatasetError, look_up_option
from .ap_report import AREA_BINS, metric_definitions
from .results import check_results
from .truth import index_coco

# What an annotation needs for each task.
TASKS = {"bbox": "bbox", "segm": "segmentation"}
_LARGEST_AREA = 1e5**2
_MOST_DETECTIONS = 2**31 - 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CocoResult:
    """AP and AR of one task.

    Attributes:
        metrics: ``{metric: percent}``, NaN where no ground truth object defines it.
        definitions: ``{metric: definition}``, in the same order.
        precision: (T, R) float in 0..1: the interpolated precision at each IoU threshold and
            recall, for objects of all areas at the largest limit of detections, averaged over the
            classes that have ground truth; its mean is AP. NaN without any ground truth.
        iou_thresholds: (T,) 0.50, 0.55 .. 0.95.
        recall_thresholds: (R,) 0, 0.01 .. 1.
        image_ids: ids of the N evaluated images, each once, in the order in which they were given.
        implementation: the package that computed the numbers, with its version.
    """

    metrics: dict[str, float]
    definitions: dict[str, str]
    precision: np.ndarray
    iou_thresholds: np.ndarray
    recall_thresholds: np.ndarray
    image_ids: list
    implementation: str
    _matches: "_Matches" = field(repr=False)

    def subset(self, indices) -> dict[str, float]:
        """Return the metrics of some of the images, as if the data set held no others.

        Args:
            indices: indices into ``image_ids`` or a bool mask of them. An image that is listed
                twice counts as two equal images; the order does not matter, for equal scores rank
                by image id. No image at all gives NaN.

        Returns:
            dict[str, float]: in percent, with the keys of ``metrics``.
        """
        precision, recall = self._matches.accumulate(indices)
        return _metrics(precision, recall, self.iou_thresholds, list(self.metrics))

    def bootstrap(self, samples) -> dict[str, np.ndarray]:
        """Return the metrics of each resample of the images; none is matched again.

        Args:
            samples: (B, N) int: each row the indices into ``image_ids`` of one resample, e.g.
                drawn with replacement.

        Returns:
            dict[str, np.ndarray]: ``{metric: (B,) percent}``, with the keys of ``metrics``; NaN
            where a resample has no ground truth object that defines the metric.
        """
        rows = [self.subset(row) for row in samples]
        return {name: np.array([row[name] for row in rows]) for name in self.metrics}


def coco_average_precision(
    truth: COCO,
    results: list[dict],
    task: str,
    *,
    image_ids=None,
    max_dets: int = 500,
    area_sides: Sequence[float] = (32, 96),
    use_fast_impl: bool = True,
    truth_name: str = "ground truth",
    results_name: str = "results",
) -> CocoResult:
    """Compute COCO's AP and AR of results against a ground truth.

    ``ap_report.metric_definitions`` defines every metric. Detections with equal scores rank in the
    order of image id, then of the list. Crowd annotations are ignored regions. A ground truth of
    several categories adds ``AP-<class>``, the AP of each.

    Args:
        truth: images, categories and annotations (area and iscrowd, with bbox or with RLE or
            polygons); left unchanged.
        results: in COCO's format: image_id, category_id, score, and bbox (XYWH in pixels) or
            segmentation (polygons or RLE). Their own ids do not matter, and there may be none.
        task: "bbox" or "segm". The area of a result, which the bins go by, is that of its box or
            of its mask.
        image_ids: ids of the images to evaluate on. None: all images of ``truth``.
        max_dets: only that many detections of an image and class, by highest score, count.
        area_sides: two sides (a, b) in pixels, a < b: an object of at most a^2 pixels is small,
            from a^2 to b^2 medium, from b^2 large; one on a boundary is in both bins.
        use_fast_impl: use faster-coco-eval where it is installed; otherwise pycocotools, with the
            same numbers.
        truth_name: what messages call ``truth``, e.g. its file.
        results_name: what messages call ``results``.

    Returns:
        CocoResult: also able to evaluate subsets and resamples of the images.

    Raises:
        ConfigError: if ``task``, ``max_dets`` or ``area_sides`` is outside of its range.
        DatasetError: if the ground truth lacks something, or a result is malformed or does not
            belong to it.
    """
    look_up_option(task, TASKS, "task", ConfigError)
    limits, ranges = max_dets_list(max_dets), area_ranges(area_sides)
    check_annotations(truth, ("area", TASKS[task]), truth_name)
    results = check_results(truth, results, TASKS[task], results_name)
    image_ids = list(truth.imgs if image_ids is None else dict.fromkeys(image_ids))
    unknown = set(image_ids) - set(truth.imgs)
    if unknown:
        raise DatasetError(f"image_ids: {truth_name} has no image {min(unknown)}.")
    numbers = {image_id: number for number, image_id in enumerate(sorted(truth.imgs), start=1)}
    truth = _number(truth, numbers)
    coco_eval_class = (fast_coco_eval() if use_fast_impl else None) or COCOeval
    coco_eval = coco_eval_class(truth, _index_results(truth, results, task, numbers), task)
    params = coco_eval.params
    params.imgIds, params.maxDets = [numbers[image_id] for image_id in image_ids], limits
    params.areaRng, params.areaRngLbl = ranges, ["all", *AREA_BINS]
    coco_eval.separate_eval = True  # faster-coco-eval then keeps the matches of each image.
    with _silence(coco_eval):
        coco_eval.evaluate()
    matches = _Matches(coco_eval, image_ids)
    precision, recall = matches.accumulate(range(len(image_ids)))
    categories = [category["name"] for category in truth.loadCats(params.catIds)]
    definitions = metric_definitions(limits, ranges[1:], categories)
    return CocoResult(
        metrics=_metrics(precision, recall, params.iouThrs, list(definitions)),
        definitions=definitions,
        precision=_mean_over_classes(precision[:, :, :, 0]),
        iou_thresholds=params.iouThrs,
        recall_thresholds=params.recThrs,
        image_ids=image_ids,
        implementation=_implementation_name(coco_eval_class),
        _matches=matches,
    )


class _Matches:
    """The matches of detections to ground truth of each class, area range and image."""

    def __init__(self, coco_eval, image_ids):
        """
        Args:
            coco_eval: pycocotools' or faster-coco-eval's, evaluated on ``image_ids``.
            image_ids: the ids, in the order of the indices that ``accumulate`` gets.
        """
        self._class = type(coco_eval)
        self._params = coco_eval.params
        # Flat, in the order of class, area range, image; COCOeval sorts the images by id.
        self._items = getattr(coco_eval, "_evalImgs_cpp", coco_eval.evalImgs)
        positions = {image_id: i for i, image_id in enumerate(sorted(image_ids))}
        self._positions = np.array([positions[image_id] for image_id in image_ids], dtype=int)

    def accumulate(self, indices) -> tuple[np.ndarray, np.ndarray]:
        """Compute the curves of the images with these indices.

        Returns:
            tuple[np.ndarray, np.ndarray]: at the largest limit of detections, precision
            (IoU, recall, class, area); of all areas, recall (IoU, class, limit). -1: undefined.
        """
        chosen = np.sort(self._positions[indices if len(indices) else []])
        blocks = range(0, len(self._items), max(1, len(self._positions)))
        items = [self._items[block + position] for block in blocks for position in chosen]
        coco_eval = self._class(iouType=self._params.iouType)
        coco_eval.params = coco_eval._paramsEval = copy.copy(self._params)
        coco_eval.params.imgIds = list(range(len(chosen)))
        coco_eval.evalImgs = coco_eval._evalImgs_cpp = items
        coco_eval.separate_eval = True
        with _silence(coco_eval):
            coco_eval.accumulate()
        return coco_eval.eval["precision"][..., -1], coco_eval.eval["recall"][:, :, 0]


def _metrics(precision, recall, iou_thresholds, names: list[str]) -> dict[str, float]:
    """Return ``{metric: percent}`` of the curves that ``_Matches.accumulate`` gives.

    ``names`` are the metrics as ``metric_definitions`` orders them: AP, AP50, AP75, one for each
    of ``AREA_BINS``, AR at each limit, AP of each class.
    """
    values = [
        precision[..., 0],
        *(precision[np.isclose(iou_thresholds, threshold)][..., 0] for threshold in (0.5, 0.75)),
        *(precision[..., area] for area in range(1, precision.shape[-1])),
        *np.moveaxis(recall, -1, 0),
        *np.moveaxis(precision[..., 0], -1, 0),
    ]
    # A single class has no AP of its own: its values are the last ones, and are left out.
    return {name: _mean_percent(part) for name, part in zip(names, values, strict=False)}


def _mean_percent(values: np.ndarray) -> float:
    """Mean of the defined values in percent; COCO marks the undefined ones as -1."""
    defined = values[values > -1]
    return 100.0 * float(np.mean(defined)) if defined.size else math.nan


def _mean_over_classes(precision: np.ndarray) -> np.ndarray:
    """(T, R, K) -> (T, R): a class without ground truth has -1 everywhere, and does not count."""
    defined = precision[:, :, (precision > -1).all(axis=(0, 1))]
    return defined.mean(axis=2) if defined.size else np.full(precision.shape[:2], np.nan)


@functools.lru_cache(maxsize=1)
def fast_coco_eval():
    """Return faster-coco-eval's COCOeval class; None, after one warning, if it does not import."""
    try:
        from faster_coco_eval import COCOeval_faster
    except Exception as error:  # A broken binary raises other errors than ImportError.
        logger.warning(
            f"faster-coco-eval cannot be imported ({error}): pycocotools evaluates instead, with "
            "the same numbers but much slower. To change it: pip install faster-coco-eval"
        )
        return None
    return COCOeval_faster


def _implementation_name(coco_eval_class) -> str:
    package = "pycocotools" if coco_eval_class is COCOeval else "faster-coco-eval"
    return f"{package} {importlib.metadata.version(package)}"


@contextlib.contextmanager
def _silence(coco_eval):
    """pycocotools prints its progress; faster-coco-eval calls a function with it."""
    coco_eval.print_function = lambda *_: None
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def max_dets_list(max_dets: int) -> list[int]:
    """Return the increasing limits of detections per image at which recall is taken.

    Raises:
        ConfigError: if ``max_dets`` is no whole number, or less than 1.
    """
    if not isinstance(max_dets, numbers.Integral) or not 1 <= max_dets <= _MOST_DETECTIONS:
        raise ConfigError(
            f"max_dets, the detections per image, must be a whole number from 1 to "
            f"{_MOST_DETECTIONS}, not {max_dets}."
        )
    return sorted({1, min(100, max_dets), max_dets})


def area_ranges(sides: Sequence[float]) -> list[list[float]]:
    """Return the (lowest, highest) area in pixels of all, small, medium and large objects.

    Raises:
        ConfigError: if ``sides`` are not two increasing sides in pixels.
    """
    are_numbers = len(sides) == 2 and all(map(is_finite, sides))
    if not are_numbers or not 0 < sides[0] < sides[1] < math.sqrt(_LARGEST_AREA):
        raise ConfigError(
            f"area_sides must be two increasing sides in pixels, e.g. [32, 96], not {sides}."
        )
    bounds = [0.0, float(sides[0]) ** 2, float(sides[1]) ** 2, _LARGEST_AREA]
    return [[0.0, _LARGEST_AREA], *map(list, itertools.pairwise(bounds))]


def check_annotations(truth: COCO, keys: Sequence[str], name: str) -> None:
    """Check that a ground truth can be evaluated on.

    Raises:
        DatasetError: if it lacks a list, a category its name, or an annotation one of ``keys``.
    """
    for part in ("images", "categories", "annotations"):
        if part not in truth.dataset:
            raise DatasetError(f"{name} has no '{part}': it is no ground truth in COCO's format.")
    if any("name" not in category for category in truth.dataset["categories"]):
        raise DatasetError(f"{name}: an entry of 'categories' lacks 'name'.")
    for annotation, key in itertools.product(truth.dataset["annotations"], keys):
        if key not in annotation:
            raise DatasetError(
                f"{name}: the annotation with id {annotation.get('id')} has no '{key}', which "
                "COCO's evaluation needs. Annotate it, or leave this task out."
            )


def _number(truth: COCO, numbers: dict) -> COCO:
    """Copy a ground truth with other ids: COCOeval takes no texts, and 0 for "unmatched"."""
    images = [{**image, "id": numbers[image["id"]]} for image in truth.dataset["images"]]
    annotations = [
        {"iscrowd": 0, **annotation, "id": number, "image_id": numbers[annotation["image_id"]]}
        for number, annotation in enumerate(truth.dataset["annotations"], start=1)
    ]
    return index_coco({**truth.dataset, "images": images, "annotations": annotations})


def _index_results(truth: COCO, results: list[dict], task: str, numbers: dict) -> COCO:
    """Index results as pycocotools' ``loadRes`` does, which fails on an empty list."""
    if task == "segm":
        # One by one: of a list longer than 255, pycocotools 2.0.11 fails with an OverflowError.
        areas = [mask_util.area(result["segmentation"]) for result in results]
    else:
        areas = [result["bbox"][2] * result["bbox"][3] for result in results]
    annotations = [
        {
            **result,
            "id": number,
            "image_id": numbers[result["image_id"]],
            "area": float(area),
            "iscrowd": 0,
        }
        for number, (result, area) in enumerate(zip(results, areas, strict=True), start=1)
    ]
    return index_coco({**truth.dataset, "annotations": annotations})
