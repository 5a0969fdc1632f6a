"""Ground truth in COCO's format, an instance map at a time."""

import contextlib
import io
import os
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO

from unet_sharp_det.data.label_maps import union_mask
from unet_sharp_det.errors import DatasetError
from unet_sharp_det.evaluation.instance_maps import InstanceMap

_KEYS = {"images": ("id", "file_name", "height", "width"), "annotations": ("id", "image_id")}


@dataclass(frozen=True)
class ImageRecord:
    """An image of a data set.

    Attributes:
        image_id: its id.
        file_name: of the image, relative to the data set's folder of images.
        shape: (height, width) in pixels.
        look: the group that reports break results down by, e.g. "histology"; None: unknown.
    """

    image_id: int | str
    file_name: str
    shape: tuple[int, int]
    look: str | None = None


class CocoTruth:
    """The objects of a COCO data set; of those that overlap, the last one has the pixels."""

    def __init__(self, json_file):
        """
        Args:
            json_file: the annotations. An image entry may have a "look", a group for reports.

        Raises:
            DatasetError: the file is missing or in another format, or repeats an id.
        """
        self.where = os.fspath(json_file)
        self.coco = _read_coco(self.where)
        self.records = {
            image["id"]: ImageRecord(
                image["id"],
                image["file_name"],
                (image["height"], image["width"]),
                image.get("look"),
            )
            for image in self.coco.dataset["images"]
        }

    def record(self, image_id) -> ImageRecord:
        """Return an image's record.

        Raises:
            DatasetError: there is no such image.
        """
        if image_id not in self.records:
            raise DatasetError(f"The ground truth {self.where} has no image {image_id}.")
        return self.records[image_id]

    def instance_map(self, image_id) -> InstanceMap:
        """Paint the objects of an image, without crowd regions."""
        record, annotations = self.record(image_id), self._annotations(image_id, crowd=0)
        return InstanceMap.from_segmentations(annotations, record.shape, self._name(record))

    def void(self, image_id) -> np.ndarray | None:
        """Return bool (H, W), the crowd regions of an image; None where it has none."""
        record, annotations = self.record(image_id), self._annotations(image_id, crowd=1)
        return union_mask(annotations, record.shape, self._name(record)) if annotations else None

    def _annotations(self, image_id, crowd: int) -> list:
        return [
            annotation.get("segmentation")
            for annotation in self.coco.imgToAnns[image_id]
            if annotation.get("iscrowd", 0) == crowd
        ]

    def _name(self, record: ImageRecord) -> str:
        return f"{self.where}: {record.file_name}"


def _read_coco(path: str) -> COCO:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(path)
        for section, keys in _KEYS.items():
            _check_entries(path, section, coco.dataset[section], keys)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(
            f"{path}: cannot be read as a COCO data set ({type(error).__name__}: {error}). It must "
            "be a JSON object with the lists 'images', 'annotations' and 'categories'."
        ) from error
    return coco


def _check_entries(path: str, section: str, entries: list[dict], keys: tuple) -> None:
    for key in keys:
        if any(key not in entry for entry in entries):
            raise DatasetError(f"{path}: an entry of '{section}' lacks '{key}'.")
    ids = [entry["id"] for entry in entries]
    if len(set(ids)) < len(ids):
        repeated = next(one for one in ids if ids.count(one) > 1)
        raise DatasetError(f"{path}: '{section}' repeats the id {repeated}.")
