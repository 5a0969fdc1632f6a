"""Folders of label maps, as StarDist, Cellpose and other tools write them: a file per image."""

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO

from ...errors import DatasetError
from ...images import decoding
from ...images.formats import check_pixels
from ...masks.instance_maps import InstanceMap
from ...masks.instances import SparseInstances
from ..coco.truth import ImageRecord, Truth, index_coco

FORMATS = (".png", ".tif", ".tiff", ".npy")

# What tools append to the stem of an image's name; the first that fits is taken off.
ENDINGS = ("_cp_masks", "_masks", "_mask", "_labels", "_label", "_seg", "_pred")

_TOO_LARGE = (
    "Cut it into parts, the truth and what was found alike, or give what was found as COCO "
    "results, as tools/predict.py --outputs coco writes them."
)


class LabelFolderTruth(Truth):
    """The objects of a folder of label maps; the ids of the images are the stems of their names."""

    has_categories = False

    def __init__(self, folder, suffix: str | None = None):
        """
        Args:
            folder: of label maps, see :func:`find_label_maps` and :func:`read_labels`.
            suffix: what follows the stem of an image's name; None: one of ``ENDINGS`` or nothing.

        Raises:
            DatasetError: there is no label map, two of one stem, or one that cannot be read.
        """
        self.where = os.fspath(folder)
        self._files = find_label_maps(folder, suffix)
        self.records = {
            stem: ImageRecord(stem, f"{stem}{path.suffix}", decoding.read_shape(path))
            for stem, path in self._files.items()
        }

    def instance_map(self, image_id) -> InstanceMap:
        """Read the objects of an image."""
        path = self._files[self.record(image_id).image_id]
        return InstanceMap.from_labels(read_labels(path), str(path))

    def void(self, image_id) -> None:
        """Return None: a label map has no crowd regions."""

    @cached_property
    def coco(self) -> COCO:
        """The same as a COCO data set of the category 1."""
        images, annotations = [], []
        for image_id, record in self.records.items():
            height, width = record.shape
            size = {"height": height, "width": width}
            images.append({"id": image_id, "file_name": record.file_name, **size})
            objects = SparseInstances.from_label_map(self.instance_map(image_id).labels)
            corners, ends = objects.boxes[:, :2], objects.boxes[:, 2:]
            boxes = np.concatenate([corners, ends - corners], axis=1).tolist()
            areas = objects.areas.tolist()
            for rle, area, box in zip(objects.to_rles(), areas, boxes, strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": 1,
                        "iscrowd": 0,
                        "segmentation": rle,
                        "area": area,
                        "bbox": box,
                    }
                )
        categories = [{"id": 1, "name": "object"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        return index_coco(content)


def find_label_maps(
    folder, suffix: str | None = None, known: Iterable[str] = ()
) -> dict[str, Path]:
    """Find the label maps of a folder, by the stem of the name of the image that each is of.

    Files of other formats than ``FORMATS``, hidden ones and subfolders are passed over.

    Args:
        folder: to look in.
        suffix: what follows the image's stem in a file's name, e.g. "_cp_masks", "_cp_masks.tif"
            or "" (nothing); files that do not end so are passed over. None: one of ``ENDINGS``
            is taken off where there is one.
        known: stems of images, of which no ending is taken off.

    Raises:
        DatasetError: there is no such folder, no label map in it, or two of one image.
    """
    if not Path(folder).is_dir():
        raise DatasetError(f"There is no folder {folder}.")
    paths = [path for path in sorted(Path(folder).iterdir()) if path.suffix.lower() in FORMATS]
    known, found = set(known), {}
    for path in paths:
        stem = _image_stem(path, suffix, known)
        if stem is None or path.name.startswith(".") or path.is_dir():
            continue
        if stem in found:
            raise DatasetError(
                f"{folder}: {found[stem].name} and {path.name} are both of the image {stem}. Say "
                "what the names of the label maps end in (--suffix, --truth-suffix), e.g. "
                "_cp_masks.tif, or move the other files away."
            )
        found[stem] = path
    if not found:
        names = f", whose name ends in '{suffix}'" if suffix else ""
        there = f" It has e.g. {paths[0].name}." if paths else ""
        raise DatasetError(f"{folder}: has no label map ({', '.join(FORMATS)}){names}.{there}")
    return found


def read_labels(path) -> np.ndarray:
    """Read a label map.

    Args:
        path: of a file of ``FORMATS``; see :func:`unet_sharp_det.images.read_labels`.

    Returns:
        integers (H, W).

    Raises:
        DatasetError: the file cannot be read, or holds colours, several pages or fractions.
    """
    check_pixels(decoding.read_shape(path), path, remedy=_TOO_LARGE)
    return decoding.read_labels(path)


def _image_stem(path: Path, suffix: str | None, known: set[str]) -> str | None:
    """Return the stem of the image that a label map is of; None if its name ends otherwise."""
    if suffix is not None:
        names = [name for name in (path.stem, path.name) if name.endswith(suffix)]
        return names[0].removesuffix(suffix) if names else None
    if path.stem in known:
        return path.stem
    endings = [ending for ending in ENDINGS if path.stem.endswith(ending)]
    return path.stem.removesuffix(endings[0]) if endings else path.stem
