"""Ground truth of images, an instance map at a time: a COCO data set, or a folder of label maps."""

import contextlib
import glob
import io
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO

from ... import volumes
from ...data.coco_json import check_coco, read_coco
from ...data.label_files import FORMATS, VOLUMES, find_label_maps
from ...errors import DatasetError
from ...files import ending_of, safe_join, split_name
from ...images import decoding
from ...images.directories import open_checked
from ...images.formats import check_pixels
from ...images.tiff import is_tiff
from ...masks import union_mask
from ...masks.instance_maps import InstanceMap
from ...masks.instances import SparseInstances
from ..instances.overlap import InstanceOverlap

_PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
#: The place of a class where there is no object.
NONE = "none"
_TOO_LARGE = "Cut it into parts, or give COCO results, as predict --outputs coco writes them."


@dataclass(frozen=True)
class TruthImage:
    """An image of a data set.

    Attributes:
        file_name: of the image, relative to the data set's folder of images.
        shape: (height, width) in pixels, of a volume (depth, height, width) in voxels.
        look: the group that reports break results down by, e.g. "histology"; None: unknown.
    """

    image_id: int | str
    file_name: str
    shape: tuple[int, ...]
    look: str | None = None

    def find_picture(self, folder) -> Path | None:
        """Return the file of the image in a folder, or one that differs in format; None: none.

        Raises a DatasetError if the file name leads out of the folder.
        """
        path = safe_join(folder, self.file_name, f"The image {self.image_id} of the ground truth")
        if path.is_file():
            return path
        others = path.parent.glob(f"{glob.escape(path.stem)}.*")
        return next((p for p in sorted(others) if p.suffix.lower() in _PICTURES), None)


class Truth(ABC):
    """The true objects of some images.

    Attributes:
        where: the file or folder.
        records: of the images by image_id.
        has_categories: whether objects have categories, else all are of the category 1.
        coco: the same in COCO's format.
    """

    where: str
    records: dict[int | str, TruthImage]
    has_categories: bool
    coco: COCO

    def record(self, image_id) -> TruthImage:
        """Return an image's record; raise a DatasetError if there is no such image."""
        if image_id not in self.records:
            raise DatasetError(f"The ground truth {self.where} has no image {image_id}.")
        return self.records[image_id]

    def overlap(self, image_id, predicted: InstanceMap, tolerance: float) -> InstanceOverlap:
        """Match the objects of an image with predicted ones; tolerance: of boundaries."""
        name, void = self.record(image_id).file_name, self.void(image_id)
        place = {"image_id": image_id, "file_name": name, "void": void}
        true = self.instance_map(image_id)
        return InstanceOverlap.count(true, predicted, **place, boundary_tolerance=tolerance)

    @abstractmethod
    def instance_map(self, image_id, category: int | None = None) -> InstanceMap:
        """Return the objects of an image, of one category or of all; DatasetError: they cannot be
        read."""

    def void(self, image_id) -> np.ndarray | None:
        """Return bool (H, W), the pixels of an image that say nothing; None where all do."""
        return None


class CocoTruth(Truth):
    """The objects of a COCO data set; of those that overlap, the last one has the pixels."""

    has_categories = True

    def __init__(self, json_file):
        """See :func:`read_coco` and :func:`check_masks`."""
        self.where = os.fspath(json_file)
        content = read_coco(self.where)
        check_masks(content["annotations"], self.where)
        self.coco = index_coco(content)
        self.records = {}
        for image in content["images"]:
            name, shape = image["file_name"], (image["height"], image["width"])
            self.records[image["id"]] = TruthImage(image["id"], name, shape, image.get("look"))

    def instance_map(self, image_id, category: int | None = None) -> InstanceMap:
        """See :class:`Truth`; crowd regions are no objects."""
        return InstanceMap.from_segmentations(*self._masks(image_id, 0, category))

    def void(self, image_id) -> np.ndarray | None:
        """See :class:`Truth`: the crowd regions."""
        segmentations, *place = self._masks(image_id, crowd=1, category=None)
        return union_mask(segmentations, *place) if segmentations else None

    def _masks(
        self, image_id, crowd: int, category: int | None
    ) -> tuple[list, tuple[int, int], str]:
        """Return the segmentations of an image, its shape and what errors call it."""
        record = self.record(image_id)
        segmentations = [
            each["segmentation"]
            for each in self.coco.imgToAnns[image_id]
            if each["iscrowd"] == crowd and category in (None, each["category_id"])
        ]
        return segmentations, record.shape, f"{self.where}: {record.file_name}"


class LabelMapTruth(Truth):
    """The objects of label maps, in files."""

    has_categories = False

    def __init__(self, where, files: Mapping[str, Path]):
        """
        Args:
            where: what errors call them.
            files: by the ids of the images, as :func:`find_label_maps` returns them.
        """
        self.where = os.fspath(where)
        self._files = files
        self.records = {
            stem: TruthImage(stem, stem + split_name(path)[1], _read_shape(path))
            for stem, path in self._files.items()
        }

    def instance_map(self, image_id, category: int | None = None) -> InstanceMap:
        """See :class:`Truth`; all objects are of one category."""
        record = self.record(image_id)
        path = self._files[record.image_id]
        dim = len(record.shape)
        return InstanceMap.from_labels(read_label_map_file(path, dim), str(path), dim=dim)

    @cached_property
    def coco(self) -> COCO:
        """The same as a COCO data set of the category 1."""
        content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "object"}]}
        for image_id, record in self.records.items():
            size = dict(zip(("height", "width"), record.shape, strict=True))
            content["images"].append({"id": image_id, "file_name": record.file_name, **size})
            objects = SparseInstances.from_label_map(self.instance_map(image_id).labels)
            for rle in objects.to_rles():
                place = {"id": len(content["annotations"]) + 1, "image_id": image_id}
                content["annotations"].append({**place, "category_id": 1, "segmentation": rle})
        check_coco(content, self.where)  # Which adds boxes and areas.
        return index_coco(content)


def open_truth(path, suffix: str | None = None) -> Truth:
    """Open ground truth: a COCO json, or a folder of label maps, by :func:`find_label_maps`.

    Raises:
        DatasetError: it is missing, in another format, or without images.
    """
    if Path(path).is_dir():
        return LabelMapTruth(path, find_label_maps(path, suffix))
    refuse_pictures(path)
    return CocoTruth(path)


def index_coco(content: dict) -> COCO:
    """Return a data set that :func:`check_coco` passed, indexed by pycocotools."""
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def category_names(coco: COCO) -> dict[int, str]:
    """Return the names of the categories by their ids; those that are :data:`NONE`, or of several
    categories, with the id."""
    names = {key: each["name"] for key, each in sorted(coco.cats.items())}
    counts = Counter([NONE, *names.values()])
    return {key: name if counts[name] == 1 else f"{name} ({key})" for key, name in names.items()}


def check_masks(annotations: list[dict], where: str) -> None:
    """Raise a DatasetError if an annotation has no mask."""
    for annotation in annotations:
        if "segmentation" not in annotation:
            raise DatasetError(
                f"{where}: the annotation with id {annotation['id']!r} has no 'segmentation'. "
                "Annotate its mask: measures of masks need more than boxes."
            )


def read_label_map_file(path, dim: int = 2) -> np.ndarray:
    """Read integers (H, W), with ``dim`` 3 (D, H, W); DatasetError: these are no label map."""
    if dim == 3:
        return volumes.read_labels(path).array[0]
    check_pixels(decoding.read_shape(path), path, remedy=_TOO_LARGE)
    return decoding.read_labels(path)


def refuse_pictures(path) -> None:
    """Raise a DatasetError if a path is that of a single label map."""
    if ending_of(path) in FORMATS:
        raise DatasetError(f"{path}: is one label map, give the folder that it is in.")


def _read_shape(path: Path) -> tuple[int, ...]:
    """(height, width), or (depth, height, width) of ``VOLUMES`` and TIFFs of several pages."""
    is_volume = ending_of(path) in VOLUMES
    if is_tiff(path):
        tiff, _ = open_checked(path)
        with tiff:
            is_volume = len(tiff.pages) > 1
    return read_label_map_file(path, 3).shape if is_volume else decoding.read_shape(path)
