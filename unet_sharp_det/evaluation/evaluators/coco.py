"""COCO's average precision for images with hundreds of small objects, as a detectron2 evaluator."""

import logging
import os

from detectron2.evaluation import COCOEvaluator

from ...data.coco_json import is_finite, read_coco
from ...errors import ConfigError, DatasetError, UserError, look_up_option
from ...files import write_json
from ..coco.ap import TASKS, coco_average_precision
from ..coco.ap_report import explain_undefined, format_table, write_ap_report
from ..readers.truth import check_masks, index_coco
from ..record import COCO_RESULTS_FILE, EvaluationOptions
from .gather import gather_on_main

logger = logging.getLogger(__name__)


class NucleiCOCOEvaluator(COCOEvaluator):
    """COCO's AP and AR of boxes and masks, beyond 100 detections per image.

    It differs from detectron2's :class:`COCOEvaluator` in this: AP and all its bins are taken at
    ``options.max_dets`` detections; AR at 1, at 100 and at ``max_dets``; the area bins are options;
    a model that detects nothing has AP 0, not no result.

    :func:`coco_average_precision` computes the numbers, in percent, and NaN where no ground truth
    object defines one, the reason of which is logged.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        tasks=TASKS,
        options: EvaluationOptions | None = None,
        output_dir: str | None = None,
    ):
        """
        Args:
            dataset_name: name of a registered data set. If its metadata has no ``json_file``,
                the data set is converted to a COCO json in ``output_dir``.
            tasks: of "bbox" and "segm", those to evaluate.
            options: of them ``max_dets`` and ``area_sides``; None: the defaults.
            output_dir: folder for ``coco_instances_results.json``, ``metrics.json`` and
                ``ap_table.md``. None: write nothing. Do not give the folder of a training itself,
                where detectron2 logs to ``metrics.json``.

        Raises:
            ConfigError: there is no such task.
            DatasetError: see :func:`read_coco`; or masks are evaluated and an object has none.
        """
        for task in tasks:
            look_up_option(task, TASKS, "tasks", ConfigError)
        super().__init__(
            dataset_name,
            tasks=tuple(tasks),
            output_dir=output_dir,
            use_fast_impl=False,
            allow_cached_coco=False,
        )
        self._dataset_name = dataset_name
        self._options = options or EvaluationOptions()
        if self._do_evaluation:
            content = read_coco(self._metadata.json_file)
            if "segm" in self._tasks:
                check_masks(content["annotations"], self._metadata.json_file)
            self._coco_api = index_coco(content)

    def evaluate(self) -> dict:
        """Return ``{task: {metric: percent}}`` on the main process, {} on the others.

        It is empty, too, for a data set without annotations, whose predictions are written alone.
        Images that were not processed count as without predictions.

        Raises:
            DatasetError: predictions and data set disagree on images or categories.
            UserError: masks are to be evaluated and the model predicted none.
        """
        predictions = gather_on_main(self._predictions)
        if predictions is None:
            return {}
        results = self._with_category_ids(
            [result for image in predictions for result in image.get("instances", [])]
        )
        if self._output_dir:
            write_json(os.path.join(self._output_dir, COCO_RESULTS_FILE), results)
        if not self._do_evaluation:
            logger.info("Annotations are not available for evaluation.")
            return {}
        self._check_results(results)
        processed, count = len({x["image_id"] for x in predictions}), len(self._coco_api.imgs)
        if processed < count:
            logger.warning(
                f"Only {processed} of the {count} images of {self._dataset_name} were "
                "processed. The objects of the others count as missed."
            )
        found = {
            task: coco_average_precision(self._coco_api, results, task, self._options)
            for task in self._tasks
        }
        logger.info(f"COCO metrics of {self._dataset_name} in percent:\n{format_table(found)}")
        for line in explain_undefined(found):
            logger.info(line)
        if self._output_dir:
            objects = len(self._coco_api.anns)
            write_ap_report(self._output_dir, found, self._options, self._dataset_name, objects)
        return {task: dict(result.metrics) for task, result in found.items()}

    def _with_category_ids(self, results) -> list[dict]:
        """Copy the results, with the data set's category ids for the model's class indices."""
        same = {category_id: category_id for category_id in self._coco_api.cats}
        mapping = self._metadata.get("thing_dataset_id_to_contiguous_id", same)
        category_ids = {index: category_id for category_id, index in mapping.items()}
        unknown = {result["category_id"] for result in results} - set(category_ids)
        if unknown:
            raise DatasetError(
                f"The model predicted the classes {sorted(unknown)}, but {self._dataset_name} has "
                f"{sorted(category_ids)}. Set NUM_CLASSES of the model's head, and load the data "
                "set before, which sets thing_dataset_id_to_contiguous_id in its metadata."
            )
        return [{**each, "category_id": category_ids[each["category_id"]]} for each in results]

    def _check_results(self, results) -> None:
        unknown = {result["image_id"] for result in results} - set(self._coco_api.imgs)
        if unknown:
            raise DatasetError(
                f"Predictions are for image ids that {self._metadata.json_file} does not have, "
                f"e.g. {min(unknown)}. Is {self._dataset_name} the data set that was loaded?"
            )
        for result in results:
            if not is_finite(result["score"]):
                raise DatasetError(
                    f"A result of image {result['image_id']} has the score {result['score']}, "
                    "which has no rank. Did the training diverge?"
                )
        if "segm" in self._tasks and any("segmentation" not in result for result in results):
            raise UserError(
                "Masks are to be evaluated, but the model predicted none. Set MODEL.MASK_ON to "
                "True, or evaluate tasks ('bbox',) only."
            )
