"""COCO's average precision for images with hundreds of small objects.

The metrics are those of the COCO detection evaluation (https://cocodataset.org/#detection-eval),
with the limit of detections per image and the area bins taken from the config.
"""

import copy
import itertools
import logging
import os
from collections import OrderedDict

from detectron2.evaluation import COCOEvaluator

from ...data.coco_json import read_coco
from ...errors import ConfigError, DatasetError, UserError, look_up_option
from ...files import write_json
from ..coco.ap import TASKS, CocoResult, area_ranges, coco_average_precision, max_dets_list
from ..coco.ap_report import explain_undefined, format_table, write_report
from ..coco.truth import index_coco
from ..ranks import gather_on_main

RESULTS_FILE = "coco_instances_results.json"

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
        tasks=tuple(TASKS),
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
            DatasetError: see :func:`read_coco`.
        """
        for task in tasks:
            look_up_option(task, TASKS, "tasks", ConfigError)
        # Only to raise here, before the predictions are made.
        max_dets_list(max_dets_per_image)
        area_ranges(area_sides)
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
        self._arguments = {
            "max_dets": max_dets_per_image,
            "area_sides": area_sides,
            "use_fast_impl": use_fast_impl,
        }
        if self._do_evaluation:
            self._arguments["truth_name"] = self._metadata.json_file
            self._coco_api = index_coco(read_coco(self._metadata.json_file))

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
            result = coco_average_precision(
                self._coco_api, results, task, image_ids=image_ids, **self._arguments
            )
            self._results[task] = result.metrics
        self._report(image_ids, result)

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

    def _report(self, image_ids, result: CocoResult) -> None:
        bins = area_ranges(self._arguments["area_sides"])[1:]
        table = format_table(self._results, result.definitions)
        self._logger.info(f"COCO metrics of {self._dataset_name} in percent:\n{table}")
        for line in explain_undefined(self._results, bins):
            self._logger.info(line)
        if self._output_dir:
            facts = {
                "dataset": self._dataset_name,
                "images": len(image_ids),
                "objects": len(self._coco_api.getAnnIds(imgIds=image_ids)),
                "max_dets": self._arguments["max_dets"],
                "implementation": result.implementation,
            }
            write_report(self._output_dir, facts, self._results, result.definitions)
