"""Ground truth, an instance map at a time: what all of it offers, and that in COCO's format."""

import contextlib
import glob
import io
import json
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.evaluation.coco_checks import MEANINGS, is_box, is_finite, is_id
from unet_sharp_det.evaluation.instance_maps import InstanceMap
from unet_sharp_det.files import safe_join

_KEYS = {"images": ("id", "file_name", "height", "width"), "annotations": ("id", "image_id")}
_ID = "but an id is a whole number or a text"
_LARGEST_SIDE = 1_000_000
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
            DatasetError: the file is missing or in another format, repeats an id, has no image,
                or annotations of images that it does not have.
        """
        self.where = os.fspath(json_file)
        self.coco = index_coco(read_json(self.where), self.where)
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
        where = self._name(record)
        return InstanceMap.from_segmentations(annotations, record.shape, where).labels > 0

    def _annotations(self, image_id, crowd: int) -> list:
        return [
            annotation.get("segmentation")
            for annotation in self.coco.imgToAnns[image_id]
            if annotation.get("iscrowd", 0) == crowd
        ]

    def _name(self, record: ImageRecord) -> str:
        return f"{self.where}: {record.file_name}"


def read_json(path):
    """Return what a JSON file holds.

    Raises:
        DatasetError: there is no such file, it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}).") from error
    except RecursionError as error:
        raise DatasetError(f"{path}: is nested too deeply for data in COCO's format.") from error
    except ValueError as error:
        raise DatasetError(f"{path}: is not JSON ({error}). Was it written completely?") from error


def index_coco(content, where: str) -> COCO:
    """Index a COCO data set.

    Args:
        content: the data set as JSON holds it.
        where: what the errors name.

    Raises:
        DatasetError: a list or a key is missing, a value is of another type than COCO's, an id is
            repeated, there is no image, or an annotation is of an image that there is not.
    """
    coco = COCO()
    coco.dataset = content
    try:
        for section, keys in _KEYS.items():
            _check_entries(where, section, content[section], keys)
        _check_images(where, content["images"])
        _check_annotations(where, content["annotations"])
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{where}: cannot be read as a COCO data set ({type(error).__name__}: {error}). It "
            "must be a JSON object with the lists 'images', 'annotations' and 'categories'."
        ) from error
    if not coco.imgs:
        raise DatasetError(f"{where}: holds no image.")
    strays = set(coco.imgToAnns) - set(coco.imgs)
    if strays:
        raise DatasetError(
            f"{where}: has annotations of {len(strays)} images that are not among its 'images', "
            f"e.g. {min(strays, key=str)}."
        )
    return coco


def _check_entries(path: str, section: str, entries: list[dict], keys: tuple) -> None:
    for key in keys:
        if any(key not in entry for entry in entries):
            raise DatasetError(f"{path}: an entry of '{section}' lacks '{key}'.")
    ids = [entry["id"] for entry in entries]
    for one in ids:
        if not is_id(one):
            raise DatasetError(f"{path}: '{section}' has the id {one!r}, {_ID}.")
    if len(set(ids)) < len(ids):
        repeated = next(one for one in ids if ids.count(one) > 1)
        raise DatasetError(f"{path}: '{section}' repeats the id {repeated}.")


def _check_images(path: str, images: list[dict]) -> None:
    for image in images:
        name = f"{path}: the image with id {image['id']}"
        if not isinstance(image["file_name"], str):
            raise DatasetError(f"{name} has the file_name {image['file_name']!r}, write a text.")
        if not isinstance(image.get("look"), str | None):
            raise DatasetError(f"{name} has the look {image['look']!r}, write a text or leave it.")
        for side in ("height", "width"):
            if not isinstance(image[side], int) or not 1 <= image[side] <= _LARGEST_SIDE:
                raise DatasetError(
                    f"{name} has the {side} {image[side]!r}, write a whole number of pixels, 1 to "
                    f"{_LARGEST_SIDE:,}."
                )
    if len({isinstance(image["id"], str) for image in images}) > 1:
        raise DatasetError(f"{path}: ids of its images are numbers and texts, write one of both.")


def _check_annotations(path: str, annotations: list[dict]) -> None:
    for annotation in annotations:
        name = f"{path}: the annotation with id {annotation['id']}"
        if annotation.get("iscrowd", 0) not in (0, 1):
            raise DatasetError(f"{name} has the iscrowd {annotation['iscrowd']!r}, write 0 or 1.")
        for key, is_right in (("bbox", is_box), ("area", is_finite)):
            if key in annotation and not is_right(annotation[key]):
                raise DatasetError(
                    f"{name} has the {key} {annotation[key]!r}: write {MEANINGS[key]}."
                )
