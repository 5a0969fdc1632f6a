"""Pictures of what the network finds in validation images, for TensorBoard and trackers."""

from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage

from ..data.label_maps import read_label_map
from ..evaluation.evaluators.volumes import draw_case
from ..images.decoding import read_picture
from ..images.intensity import rescale_to_uint8
from ..masks.drawing import draw_side_by_side
from ..masks.instance_maps import InstanceMap
from ..masks.instances import SparseInstances
from ..modeling.semantic_labels import SemanticLabels

COUNT = 4


class ValidationImages(DatasetEvaluator):
    """Puts the first ``COUNT`` images of an evaluation into the event storage, with the contours
    of the truth on the left, of the prediction on the right; no measure comes of it.

    Each object has a contour, of semantic models each channel; of volumes a slice is drawn. There
    are none of detectors without masks, and of semantic heads that name no labels.
    """

    def __init__(self, dataset_name: str, labels: SemanticLabels | None, counting: dict):
        """
        Args:
            dataset_name: name of a registered data set of images.
            labels: of a semantic model.
            counting: which objects count, see :meth:`InstanceMap.from_objects`.
        """
        self._dataset_name = dataset_name
        self._records = {each["file_name"]: each for each in DatasetCatalog.get(dataset_name)}
        self._labels = labels
        self._counting = counting
        self.reset()

    def reset(self) -> None:
        self._seen = 0

    def process(self, inputs, outputs) -> None:
        for each, output in zip(inputs, outputs, strict=True):
            self._seen += 1
            if self._seen > COUNT:
                return
            record = self._records[each["file_name"]]
            picture = self._draw(record, output)
            if picture is not None:
                name = f"{self._dataset_name}/{Path(record['file_name']).stem}"
                get_event_storage().put_image(name, np.moveaxis(picture, -1, 0))

    def _draw(self, record: dict, output: dict) -> np.ndarray | None:
        if self._labels is not None and "volume_files" in record:
            return draw_case(record, output, self._labels)
        maps = self._maps(record, output)
        image = rescale_to_uint8(read_picture(record["file_name"])) if maps else None
        return draw_side_by_side(image, maps) if maps else None

    def _maps(self, record: dict, output: dict) -> list[np.ndarray]:
        """Return the label maps (H, W) of truth and prediction, if the model makes any."""
        if "instances" in output:
            found = output["instances"]
            return self._instance_maps(record, found) if found.has("pred_masks") else []
        if self._labels is None:
            return []
        truth = torch.from_numpy(read_label_map(record).astype(np.int64))
        truth, _ = self._labels.encode(truth[None])
        predicted = self._labels.decide(output["sem_seg"][None])
        return [self._labels.number(truth[0]), self._labels.number(predicted[0])]

    def _instance_maps(self, record: dict, found: Instances) -> list[np.ndarray]:
        objects = [each for each in record.get("annotations", ()) if not each.get("iscrowd")]
        segmentations = [each["segmentation"] for each in objects]
        where, shape = record["file_name"], (record["height"], record["width"])
        truth = InstanceMap.from_segmentations(segmentations, shape, where)
        objects = SparseInstances.from_instances(found)
        predicted = InstanceMap.from_objects(objects, where, **self._counting)
        return [truth.labels, predicted.labels]
