"""Data sets that are known by being there: a folder with ``dataset.json``, as ``import`` writes it.

Of images::

    {"name": "mine", "source": "...", "format": "...", "classes": ["nucleus"],
     "image_root": "images", "splits": {"train": "annotations/train.json", "val": "..."}}

``image_root`` is relative to the folder, or absolute where images stay at their place. Those of
volumes are described in :mod:`.volume_catalog`.
"""

import logging
from pathlib import Path

from detectron2.data import MetadataCatalog

from ..addresses import folders_with
from ..errors import DatasetError, UserError
from ..files import read_json, safe_join
from .catalog import datasets_root, register_coco_nuclei
from .volume_catalog import DATASET_FILE, REMEDY, VOLUME_SETS, register_volumes

logger = logging.getLogger(__name__)


def register_folders() -> None:
    """Register each folder ``$DETECTRON2_DATASETS/<name>`` with a ``dataset.json`` as
    ``<name>_train``, ``<name>_val`` and ``<name>_test``, and the folders of ``VOLUME_SETS``, there
    or not."""
    root, found = datasets_root(), []
    try:
        found = folders_with(root, DATASET_FILE)
    except UserError as error:  # An address that cannot be reached stops no command.
        logger.warning(error)
    for name in sorted({*found, *VOLUME_SETS}):
        folder = root / name
        content = read_images(folder) if name in found else None
        if content is None:
            register_volumes(name, folder / DATASET_FILE)
            continue
        try:
            register_images(name, folder, content)
        except DatasetError as error:  # One damaged folder stops no command.
            logger.warning(error)


def read_images(folder: Path) -> dict | None:
    """Return what the ``dataset.json`` of a data set of images holds; None: it is none."""
    try:
        content = read_json(folder / DATASET_FILE, dict)
    except UserError:
        return None  # It is told when it is used.
    return content if "image_root" in content else None


def register_images(name: str, folder: Path, content: dict) -> None:
    """Register the splits of a data set of images, to be read when they are used.

    Args:
        content: of its ``dataset.json``.

    Raises:
        DatasetError: it is not as the module says.
    """
    where = folder / DATASET_FILE
    classes, splits, root = (content.get(key) for key in ("classes", "splits", "image_root"))
    is_right = isinstance(classes, list) and isinstance(splits, dict) and isinstance(root, str)
    if not is_right or not all(isinstance(each, str) for each in classes):
        raise DatasetError(f"{where}: lacks 'classes', 'splits' or 'image_root'. {REMEDY}")
    for split, file in splits.items():
        json_file = safe_join(folder, file, str(where))
        full_name = f"{name}_{split}"
        register_coco_nuclei(full_name, json_file, folder / root, classes, remedy=REMEDY)
        MetadataCatalog.get(full_name).set(dataset_folder=str(folder))
