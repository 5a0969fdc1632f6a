"""The measures of instance segmentation as a detectron2 evaluator."""

import logging

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from ...errors import DatasetError, UserError
from ...masks.instance_maps import InstanceMap
from ...masks.instances import SparseInstances
from ..instances.overlap import InstanceOverlap
from ..instances.results import InstanceResults
from ..readers.truth import CocoTruth, Truth
from ..record import COCO_RESULTS_FILE, EvaluationOptions
from .gather import gather_on_main, write_record

logger = logging.getLogger(__name__)


class InstanceEvaluator(DatasetEvaluator):
    """The :data:`INSTANCE_MEASURES`, and :data:`FOREGROUND_MEASURES` of the union of all objects.

    Predicted masks become an :class:`InstanceMap`: where they overlap, the higher score has the
    pixels. Classes are not told apart. Crowd regions of the ground truth count for nothing.
    """

    #: What a report is made of.
    predictions_file = COCO_RESULTS_FILE

    def __init__(
        self,
        dataset_name: str,
        *,
        options: EvaluationOptions | None = None,
        output_dir: str | None = None,
    ):
        """
        Args:
            dataset_name, options: see :class:`NucleiCOCOEvaluator`.
            output_dir: folder for ``instances_per_image.csv``, ``instance_metrics.json`` and
                ``evaluation.json``, which reports read. None: write nothing.

        Raises:
            DatasetError: there is no COCO json.
        """
        self._dataset_name = dataset_name
        self._options = options or EvaluationOptions()
        self._output_dir = output_dir
        self._truth = self._open_truth(dataset_name)
        self.reset()

    def reset(self) -> None:
        """Forget the images processed so far."""
        self._overlaps: list[InstanceOverlap] = []

    def process(self, inputs, outputs) -> None:
        """Match the objects of a batch of images.

        Args:
            inputs: dataset dicts with "image_id".
            outputs: dicts with "instances", whose ``pred_masks`` are bool (N, H, W), and whose
                ``scores`` and ``pred_classes`` (N,).

        Raises:
            DatasetError: an image is unknown or of another size, or a score is no finite number.
            UserError: the model predicts no masks.
        """
        for record, output in zip(inputs, outputs, strict=True):
            predicted = self._to_map(record["image_id"], output)
            self._overlaps.append(self._compare(record["image_id"], predicted))

    def evaluate(self) -> dict:
        """Return ``{"instances": {measure: value}, "foreground": ...}``, {} on other processes.

        Images that were not processed count as without predictions. Raises a DatasetError if one
        was processed twice.
        """
        overlaps = gather_on_main(self._overlaps)
        if overlaps is None:
            return {}
        missing = set(self._truth.records) - {overlap.image_id for overlap in overlaps}
        if missing:
            logger.warning(
                f"{len(missing)} of the {len(self._truth.records)} images of {self._dataset_name} "
                "were not processed. Their objects count as missed."
            )
            overlaps = overlaps + [
                self._compare(image_id, InstanceMap.empty(self._truth.record(image_id).shape))
                for image_id in missing
            ]
        results = InstanceResults(overlaps)
        logger.info(
            f"Instance measures of {self._dataset_name}, {len(overlaps)} images, objects scored "
            f"at least {self._options.score_threshold:g}:\n{results.format()}"
        )
        if self._output_dir:
            results.write(self._output_dir, self._dataset_name, self._options)
            write_record(self._dataset_name, self.predictions_file, self._options, self._output_dir)
        return results.headline

    @staticmethod
    def _open_truth(dataset_name: str) -> Truth:
        json_file = MetadataCatalog.get(dataset_name).get("json_file")
        if json_file is None:
            raise DatasetError(
                f"The data set {dataset_name} has no json_file in its metadata. Build a "
                "NucleiCOCOEvaluator before, which writes one."
            )
        return CocoTruth(json_file)

    def _to_map(self, image_id, output: dict) -> InstanceMap:
        instances = output["instances"]
        if not instances.has("pred_masks"):
            raise UserError(
                "These measures need masks, but the model predicted none. Set MODEL.MASK_ON to "
                "True, or leave this evaluator out."
            )
        found = SparseInstances.from_instances(instances)
        return InstanceMap.from_objects(found, f"image {image_id}", **self._options.counting)

    def _compare(self, image_id, predicted: InstanceMap) -> InstanceOverlap:
        return self._truth.overlap(image_id, predicted, self._options.boundary_tolerance)
