"""COCO's average precision of a list of results, and of any resample of its images.

The metrics are those of the COCO detection evaluation (https://cocodataset.org/#detection-eval),
with the limit of detections per image and the area bins as options. Detections are matched once;
of a subset of the images the matches are accumulated anew.
"""

import copy
import importlib.metadata
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO
from tqdm import tqdm

from ...masks import mask_areas
from ..readers.truth import category_names, index_coco
from ..record import EvaluationOptions

TASKS = ("bbox", "segm")
AREA_BINS = ("small", "medium", "large")


@dataclass(frozen=True, eq=False)
class CocoResult:
    """AP and AR of one task.

    Attributes:
        metrics: ``{metric: percent}``, NaN where no ground truth object defines it.
        definitions: ``{metric: definition}``.
        precision: (T, R) float in 0..1: the interpolated precision at the IoU thresholds 0.50, 0.55
            .. 0.95 and the recalls 0, 0.01 .. 1, for objects of all areas at the largest limit of
            detections, averaged over the classes that have ground truth; its mean is AP. NaN
            without any ground truth.
        image_ids: ids of the N images, sorted.
        implementation: the package that computed the numbers, with its version.
    """

    metrics: dict[str, float]
    definitions: dict[str, str]
    precision: np.ndarray
    image_ids: list
    implementation: str
    _coco_eval: COCOeval_faster = field(repr=False)

    def subset(self, indices) -> dict[str, float]:
        """Return the metrics in percent of some of the images, as if there were no others.

        Args:
            indices: into ``image_ids``, in any order. An image that is listed twice counts as two
                equal images. No image at all gives NaN.
        """
        return _metrics(*_accumulate(self._coco_eval, indices), self.definitions)

    def bootstrap(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return the metrics (B,) of B samples, as :meth:`.MeasureTable.resampled` does."""
        images = np.arange(len(self.image_ids))
        bar = tqdm(weights, "intervals of AP", unit="sample", delay=3, disable=None)
        rows = [self.subset(np.repeat(images, counts)) for counts in bar]
        return {name: np.array([row[name] for row in rows]) for name in self.metrics}


def coco_average_precision(
    truth: COCO, results: list[dict], task: str, options: EvaluationOptions
) -> CocoResult:
    """Compute COCO's AP and AR of results against a ground truth, of which nothing is checked.

    Detections with equal scores rank in the order of image id, then of the list. Crowd annotations
    are ignored regions. A ground truth of several categories adds ``AP-<class>``, the AP of each.

    Args:
        truth: images, categories and annotations (area and iscrowd, with bbox or with RLE or
            polygons); left unchanged.
        results: in COCO's format: image_id, category_id, score, and bbox (XYWH in pixels) or
            segmentation (RLE). Their own ids do not matter.
        task: "bbox" or "segm". The area of a result, which the bins go by, is that of its box or
            of its mask.
        options: of them ``max_dets`` and ``area_sides``.
    """
    image_ids = sorted(truth.imgs)
    numbers = {image_id: number for number, image_id in enumerate(image_ids, start=1)}
    true = _index(truth, truth.dataset["annotations"], numbers)
    coco_eval = _evaluation(task, true, _index(truth, _with_areas(results, task), numbers))
    params, ranges = coco_eval.params, options.area_ranges
    params.imgIds = list(numbers.values())
    params.maxDets = options.recall_limits
    params.areaRng, params.areaRngLbl = [[0.0, ranges[-1][1]], *ranges], ["all", *AREA_BINS]
    coco_eval.evaluate()
    precision, recall = _accumulate(coco_eval, range(len(image_ids)))
    definitions = metric_definitions(options, list(category_names(truth).values()))
    return CocoResult(
        metrics=_metrics(precision, recall, definitions),
        definitions=definitions,
        precision=_mean_over_classes(precision[:, :, :, 0]),
        image_ids=image_ids,
        implementation=f"faster-coco-eval {importlib.metadata.version('faster-coco-eval')}",
        _coco_eval=coco_eval,
    )


def metric_definitions(options: EvaluationOptions, class_names: list[str]) -> dict[str, str]:
    """Return ``{metric: definition}``, in the order of reports; several classes have an AP each."""
    definitions = {
        "AP": (
            "mean over IoU thresholds 0.50, 0.55 .. 0.95 of the area under the 101-point "
            f"interpolated precision-recall curve, {options.max_dets} detections per image"
        ),
        "AP50": "the same at IoU threshold 0.50",
        "AP75": "the same at IoU threshold 0.75",
    }
    for label, (low, high) in zip(AREA_BINS, options.area_ranges, strict=True):
        text = f"at least {low:g} pixels" if label == "large" else f"{low:g} to {high:g} pixels"
        definitions[f"AP{label[0]}"] = f"AP of {label} objects: area of {text}"
    for limit in options.recall_limits:
        definitions[f"AR@{limit}"] = "mean over the IoU thresholds of the recall of an image's " + (
            "best detection" if limit == 1 else f"{limit} best detections"
        )
    if len(class_names) > 1:
        definitions.update((f"AP-{name}", "AP of that class") for name in class_names)
    return definitions


def _evaluation(task: str, truth: COCO | None = None, found: COCO | None = None) -> COCOeval_faster:
    """Return an evaluation that keeps the matches of each image, and prints nothing."""
    return COCOeval_faster(truth, found, task, separate_eval=True, print_function=lambda *_: None)


def _accumulate(coco_eval, indices) -> tuple[np.ndarray, np.ndarray]:
    """Return precision (IoU, recall, class, area) and recall (IoU, class, limit) of images, from
    the matches of an evaluation of all.

    Precision is that at the largest limit, recall that of all areas; -1 where undefined.
    """
    chosen, params = sorted(indices), coco_eval.params
    # Flat, in the order of class, area range, image.
    matches = coco_eval._evalImgs_cpp
    blocks = range(0, len(matches), len(params.imgIds))
    items = [matches[block + place] for block in blocks for place in chosen]
    part = _evaluation(params.iouType)
    part.params = part._paramsEval = copy.copy(params)
    part.params.imgIds = list(range(len(chosen)))
    part._evalImgs_cpp = items
    part.accumulate()
    return part.eval["precision"][..., -1], part.eval["recall"][:, :, 0]


def _metrics(precision, recall, names: Iterable[str]) -> dict[str, float]:
    """Return ``{metric: percent}`` of curves; ``names`` are in the order of the definitions."""
    curves = [
        precision[..., 0],
        precision[0, ..., 0],  # IoU 0.50
        precision[5, ..., 0],  # IoU 0.75
        *(precision[..., area] for area in range(1, precision.shape[-1])),
        *np.moveaxis(recall, -1, 0),
        *np.moveaxis(precision[..., 0], -1, 0),
    ]
    defined = [curve[curve > -1] for curve in curves]
    means = [100.0 * float(np.mean(each)) if each.size else math.nan for each in defined]
    # A single class has no AP of its own: its values are the last ones, and are left out.
    return dict(zip(names, means, strict=False))


def _mean_over_classes(precision: np.ndarray) -> np.ndarray:
    """(T, R, K) -> (T, R): a class without ground truth has -1 everywhere, and does not count."""
    defined = precision[:, :, (precision > -1).all(axis=(0, 1))]
    return defined.mean(axis=2) if defined.size else np.full(precision.shape[:2], np.nan)


def _index(truth: COCO, annotations: list[dict], numbers: dict) -> COCO:
    """Index annotations of a ground truth's images with other ids: COCOeval takes no texts, and 0
    for "unmatched"."""
    images = [{**image, "id": numbers[image["id"]]} for image in truth.dataset["images"]]
    annotations = [
        {"iscrowd": 0, **annotation, "id": number, "image_id": numbers[annotation["image_id"]]}
        for number, annotation in enumerate(annotations, start=1)
    ]
    return index_coco({**truth.dataset, "images": images, "annotations": annotations})


def _with_areas(results: list[dict], task: str) -> list[dict]:
    """Copy results with their areas, as pycocotools' ``loadRes`` does, which fails on an empty
    list."""
    if task == "segm":
        areas = mask_areas([result["segmentation"] for result in results])
    else:
        areas = [result["bbox"][2] * result["bbox"][3] for result in results]
    return [{**each, "area": float(area)} for each, area in zip(results, areas, strict=True)]
