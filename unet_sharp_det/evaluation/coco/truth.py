"""Ground truth, an instance map at a time: what all of it offers, and that in COCO's format."""

import contextlib
import glob
import io
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO

from ...data.coco_json import read_coco
from ...errors import DatasetError
from ...files import safe_join
from ...masks import union_mask
from ...masks.instance_maps import InstanceMap

_PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")


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

    def find_picture(self, folder) -> Path | None:
        """Return the file of the image in a folder, or one that differs in format; None: none.

        Raises:
            DatasetError: the file name leads out of the folder.
        """
        path = safe_join(folder, self.file_name, f"The image {self.image_id} of the ground truth")
        if path.is_file():
            return path
        others = path.parent.glob(f"{glob.escape(path.stem)}.*")
        return next((p for p in sorted(others) if p.suffix.lower() in _PICTURES), None)


class Truth(ABC):
    """The true objects of some images.

    Attributes:
        where: the file or folder that they are of.
        records: ``{image_id: ImageRecord}``, never empty.
        has_categories: whether objects have categories, else all are of the category 1.
        coco: the same in COCO's format, whose images have the ids of ``records``.
    """

    where: str
    records: dict[int | str, ImageRecord]
    has_categories: bool
    coco: COCO

    def record(self, image_id) -> ImageRecord:
        """Return an image's record.

        Raises:
            DatasetError: there is no such image.
        """
        if image_id not in self.records:
            raise DatasetError(f"The ground truth {self.where} has no image {image_id}.")
        return self.records[image_id]

    @abstractmethod
    def instance_map(self, image_id) -> InstanceMap:
        """Return the objects of an image.

        Raises:
            DatasetError: there is no such image, or its objects cannot be read.
        """

    @abstractmethod
    def void(self, image_id) -> np.ndarray | None:
        """Return bool (H, W), the pixels of an image that say nothing; None where all do."""


class CocoTruth(Truth):
    """The objects of a COCO data set; of those that overlap, the last one has the pixels."""

    has_categories = True

    def __init__(self, json_file):
        """
        Args:
            json_file: the annotations. An image entry may have a "look", a group for reports.

        Raises:
            DatasetError: see :func:`read_coco`; or an object has no mask.
        """
        self.where = os.fspath(json_file)
        content = read_coco(self.where)
        _check_masks(content["annotations"], self.where)
        self.coco = index_coco(content)
        self.records = {
            image["id"]: ImageRecord(
                image["id"],
                image["file_name"],
                (image["height"], image["width"]),
                image.get("look"),
            )
            for image in self.coco.dataset["images"]
        }

    def instance_map(self, image_id) -> InstanceMap:
        """Paint the objects of an image, without crowd regions."""
        record, annotations = self.record(image_id), self._annotations(image_id, crowd=0)
        return InstanceMap.from_segmentations(annotations, record.shape, self._name(record))

    def void(self, image_id) -> np.ndarray | None:
        """Return bool (H, W), the crowd regions of an image; None where it has none."""
        record, annotations = self.record(image_id), self._annotations(image_id, crowd=1)
        if not annotations:
            return None
        return union_mask(annotations, record.shape, self._name(record))

    def _annotations(self, image_id, crowd: int) -> list:
        return [
            annotation["segmentation"]
            for annotation in self.coco.imgToAnns[image_id]
            if annotation["iscrowd"] == crowd
        ]

    def _name(self, record: ImageRecord) -> str:
        return f"{self.where}: {record.file_name}"


def _check_masks(annotations: list[dict], where: str) -> None:
    for annotation in annotations:
        if "segmentation" not in annotation:
            raise DatasetError(
                f"{where}: the annotation with id {annotation['id']!r} has no 'segmentation'. "
                "Annotate its mask: these measures compare masks, boxes alone do not do."
            )


def index_coco(content: dict) -> COCO:
    """Return a data set that :func:`check_coco` passed, indexed by pycocotools."""
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco
