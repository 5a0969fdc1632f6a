"""COCO's average precision for images with hundreds of small objects.

The metrics are those of the COCO detection evaluation (https://cocodataset.org/#detection-eval),
with the limit of detections per image and the area bins taken from the config.
"""

import contextlib
import copy
import functools
import importlib.metadata
import io
import itertools
import logging
import math
import os
from collections import OrderedDict

import numpy as np
import pycocotools.mask as mask_util
from detectron2.evaluation import COCOEvaluator
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from unet_sharp_det.errors import ConfigError, DatasetError, UserError, look_up_option
from unet_sharp_det.evaluation.ap_report import (
    AREA_BINS,
    explain_undefined,
    format_table,
    metric_definitions,
    write_report,
)
from unet_sharp_det.evaluation.ranks import gather_on_main
from unet_sharp_det.files import write_json

RESULTS_FILE = "coco_instances_results.json"

_TASKS = ("bbox", "segm")
_LARGEST_AREA = 1e5**2

logger = logging.getLogger(__name__)


class NucleiCOCOEvaluator(COCOEvaluator):
    """COCO's AP and AR of boxes and masks, beyond 100 detections per image.

    It differs from detectron2's :class:`COCOEvaluator` in this: AP and all its bins are taken at
    ``max_dets_per_image`` detections; AR at 1, at 100 and at ``max_dets_per_image``; the area
    bins are arguments; a model that detects nothing has AP 0, not no result; faster-coco-eval
    computes the numbers, which equal pycocotools' (``tests/evaluation``).

    ``ap_report.metric_definitions`` defines every metric. Each is in percent, and NaN where no
    ground truth object defines it, the reason of which is logged. Detections with equal scores
    rank in the order of image id, then of the model's output. Crowd annotations are ignored
    regions. With several classes, ``AP-<class>`` is the AP of each.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        tasks=_TASKS,
        max_dets_per_image: int = 500,
        area_sides=(32, 96),
        distributed: bool = True,
        output_dir: str | None = None,
        use_fast_impl: bool = True,
        allow_cached_coco: bool = False,
    ):
        """
        Args:
            dataset_name: name of a registered data set. If its metadata has no ``json_file``,
                the data set is converted to a COCO json in ``output_dir``.
            tasks: of "bbox" and "segm", those to evaluate.
            max_dets_per_image: only that many detections of an image, by highest score, count.
            area_sides: two sides (a, b) in pixels, a < b: an object of at most a^2 pixels is
                small, from a^2 to b^2 medium, from b^2 large; one on a boundary is in both bins.
            distributed: gather the predictions of all ranks, and evaluate on the main one.
                Otherwise each process evaluates its own predictions.
            output_dir: folder for ``coco_instances_results.json``, ``metrics.json`` and
                ``ap_table.md``, each replaced atomically. None: write nothing. Do not give the
                folder of a training run itself, where detectron2 logs to ``metrics.json``.
            use_fast_impl: use faster-coco-eval where it is installed; otherwise pycocotools.
            allow_cached_coco: reuse a COCO json that an earlier run converted.

        Raises:
            ConfigError: if an argument is outside of its range.
            DatasetError: if a ground truth annotation lacks its area.
        """
        for task in tasks:
            look_up_option(task, _TASKS, "tasks", ConfigError)
        self._max_dets = _max_dets_list(max_dets_per_image)
        self._area_ranges = _area_ranges(area_sides)
        super().__init__(
            dataset_name,
            tasks=tuple(tasks),
            distributed=distributed,
            output_dir=output_dir,
            use_fast_impl=False,
            allow_cached_coco=allow_cached_coco,
        )
        self._logger = logger
        self._dataset_name = dataset_name
        self._coco_eval_class = (fast_coco_eval() if use_fast_impl else None) or COCOeval
        if self._do_evaluation:
            _normalize_annotations(self._coco_api, self._metadata.json_file)

    def evaluate(self, img_ids=None) -> dict:
        """Evaluate the processed images, on the main process.

        Args:
            img_ids: ids of the images to evaluate on. None: all images of the data set, whether
                or not they were processed.

        Returns:
            dict: ``{task: {metric: percent}}``; empty on other ranks, and for a data set without
            annotations, for which only the predictions are written.

        Raises:
            DatasetError: if predictions and data set disagree on images or categories.
            UserError: if masks are to be evaluated and the model predicted none.
        """
        predictions = gather_on_main(self._predictions, self._distributed)
        if predictions is None:
            return {}
        self._results = OrderedDict()
        self._eval_predictions(predictions, img_ids=img_ids)
        return copy.deepcopy(self._results)

    def _eval_predictions(self, predictions, img_ids=None):
        results = list(itertools.chain(*[x.get("instances", []) for x in predictions]))
        results = self._with_category_ids(results)
        if self._output_dir:
            write_json(os.path.join(self._output_dir, RESULTS_FILE), results)
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return
        self._check_results(results)
        image_ids = self._coco_api.getImgIds() if img_ids is None else list(img_ids)
        processed = len({x["image_id"] for x in predictions} & set(image_ids))
        if processed < len(image_ids):
            self._logger.warning(
                f"Only {processed} of the {len(image_ids)} images of {self._dataset_name} were "
                "processed. The objects of the others count as missed."
            )
        for task in self._tasks:
            coco_eval = self._run_coco_eval(results, task, image_ids)
            self._results[task] = self._derive_coco_results(
                coco_eval, task, self._metadata.get("thing_classes")
            )
        self._report(image_ids)

    def _with_category_ids(self, results) -> list[dict]:
        """Copy the results, with the data set's category ids for the model's class indices."""
        mapping = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if mapping is None:
            mapping = {category_id: category_id for category_id in self._coco_api.cats}
        category_ids = {index: category_id for category_id, index in mapping.items()}
        unknown = {result["category_id"] for result in results} - set(category_ids)
        if unknown:
            raise DatasetError(
                f"The model predicted the classes {sorted(unknown)}, but {self._dataset_name} has "
                f"{sorted(category_ids)}. Set MODEL.ROI_HEADS.NUM_CLASSES (for RetinaNet, "
                "MODEL.RETINANET.NUM_CLASSES) to their number, and load the data set before, which "
                "sets thing_dataset_id_to_contiguous_id in its metadata."
            )
        return [
            {**result, "category_id": category_ids[result["category_id"]]} for result in results
        ]

    def _check_results(self, results) -> None:
        unknown = {result["image_id"] for result in results} - set(self._coco_api.imgs)
        if unknown:
            raise DatasetError(
                f"Predictions for image ids that {self._metadata.json_file} does not have, e.g. "
                f"{min(unknown)}: is {self._dataset_name} the data set that was loaded?"
            )
        if "segm" in self._tasks and any("segmentation" not in result for result in results):
            raise UserError(
                "Masks are to be evaluated, but the model predicted none: set MODEL.MASK_ON to "
                "True for a model with masks, or evaluate tasks ('bbox',) only."
            )

    def _run_coco_eval(self, results, task, image_ids):
        detections = _index_results(self._coco_api, results, task)
        coco_eval = self._coco_eval_class(self._coco_api, detections, task)
        coco_eval.params.imgIds = image_ids
        coco_eval.params.maxDets = self._max_dets
        coco_eval.params.areaRng = self._area_ranges
        coco_eval.params.areaRngLbl = ["all", *AREA_BINS]
        with contextlib.redirect_stdout(io.StringIO()):
            coco_eval.evaluate()
            coco_eval.accumulate()
        return coco_eval

    def _derive_coco_results(self, coco_eval, iou_type, class_names=None) -> dict:
        # precision: (IoU, recall, class, area, max dets); recall: (IoU, class, area, max dets).
        precision = coco_eval.eval["precision"][..., -1]
        recall = coco_eval.eval["recall"][:, :, 0]
        thresholds = coco_eval.params.iouThrs
        metrics = {
            "AP": precision[..., 0],
            "AP50": precision[np.isclose(thresholds, 0.5)][..., 0],
            "AP75": precision[np.isclose(thresholds, 0.75)][..., 0],
            **{f"AP{label[0]}": precision[..., i] for i, label in enumerate(AREA_BINS, start=1)},
            **{f"AR@{limit}": recall[..., i] for i, limit in enumerate(self._max_dets)},
        }
        if class_names is not None and len(class_names) > 1:
            for i, category in enumerate(self._coco_api.loadCats(coco_eval.params.catIds)):
                metrics[f"AP-{category['name']}"] = precision[:, :, i, 0]
        return {name: _mean_percent(values) for name, values in metrics.items()}

    def _report(self, image_ids) -> None:
        bins = self._area_ranges[1:]
        definitions = metric_definitions(self._max_dets, bins)
        table = format_table(self._results, definitions)
        self._logger.info(f"COCO metrics of {self._dataset_name} in percent:\n{table}")
        for line in explain_undefined(self._results, bins):
            self._logger.info(line)
        if self._output_dir:
            facts = {
                "dataset": self._dataset_name,
                "images": len(image_ids),
                "objects": len(self._coco_api.getAnnIds(imgIds=image_ids)),
                "max_dets": self._max_dets[-1],
                "implementation": _implementation_name(self._coco_eval_class),
            }
            write_report(self._output_dir, facts, self._results, definitions)


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


def _max_dets_list(max_dets: int) -> list[int]:
    if max_dets < 1:
        raise ConfigError(f"TEST.DETECTIONS_PER_IMAGE must be 1 or more, not {max_dets}.")
    return sorted({1, min(100, max_dets), max_dets})


def _area_ranges(sides) -> list[list[float]]:
    if len(sides) != 2 or not 0 < sides[0] < sides[1] < math.sqrt(_LARGEST_AREA):
        raise ConfigError(
            f"TEST.AREA_SIDES must be two increasing sides in pixels, e.g. [32, 96], not {sides}."
        )
    bounds = [0.0, float(sides[0]) ** 2, float(sides[1]) ** 2, _LARGEST_AREA]
    return [[0.0, _LARGEST_AREA], *map(list, itertools.pairwise(bounds))]


def _normalize_annotations(ground_truth: COCO, json_file) -> None:
    """Number annotations from 1, since COCOeval takes id 0 for "unmatched"; iscrowd defaults to 0.

    Raises:
        DatasetError: if an annotation has no area.
    """
    annotations = ground_truth.dataset["annotations"]
    for number, annotation in enumerate(annotations, start=1):
        if "area" not in annotation:
            raise DatasetError(
                f"{json_file}: the annotation with id {annotation.get('id')} has no 'area', which "
                "COCO's evaluation needs. Write its number of pixels."
            )
        annotation["id"] = number
        annotation.setdefault("iscrowd", 0)
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth.createIndex()


def _index_results(ground_truth: COCO, results: list[dict], task: str) -> COCO:
    """Index results as pycocotools' ``loadRes`` does, which fails on an empty list.

    The area of a result, which the bins go by, is that of its mask for "segm", of its box for
    "bbox".
    """
    if task == "segm":
        # One by one: of a list longer than 255, pycocotools 2.0.11 fails with an OverflowError.
        areas = [mask_util.area(result["segmentation"]) for result in results]
    else:
        areas = [result["bbox"][2] * result["bbox"][3] for result in results]
    detections = COCO()
    detections.dataset = {
        "images": ground_truth.dataset["images"],
        "categories": ground_truth.dataset["categories"],
        "annotations": [
            {**result, "id": number, "area": float(area), "iscrowd": 0}
            for number, (result, area) in enumerate(zip(results, areas, strict=True), start=1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        detections.createIndex()
    return detections


def _mean_percent(values: np.ndarray) -> float:
    """Mean of the defined values in percent; COCO marks the undefined ones as -1."""
    defined = values[values > -1]
    return 100.0 * float(np.mean(defined)) if defined.size else math.nan


def _implementation_name(coco_eval_class) -> str:
    package = "pycocotools" if coco_eval_class is COCOeval else "faster-coco-eval"
    return f"{package} {importlib.metadata.version(package)}"
