"""Registration of nuclei data sets in COCO format, with checks that say what is wrong and where."""

import functools
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from unet_sharp_det.errors import DatasetError, look_up_option
from unet_sharp_det.files import safe_join

from .dsb2018_convert import CATEGORIES, SPLITS, default_root
from .label_maps import IGNORED, find_polygon_fault

# What load_coco_json takes for granted, by section of the json file.
_KEYS = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


def register_dsb2018(root=None) -> None:
    """Register ``dsb2018_train``, ``dsb2018_val`` and ``dsb2018_test``; nothing is read yet.

    Registering the same root again changes nothing, another root replaces the former one. Label
    maps are read from ``root/semantic`` if there is that folder, which older conversions lack;
    :func:`read_label_map` paints the same ones from the annotations.

    Args:
        root: the folder that ``datasets/prepare_dsb2018.py`` wrote to. None:
            ``$DETECTRON2_DATASETS/dsb2018``, where the variable defaults to ``datasets``.
    """
    root = default_root() if root is None else Path(root)
    for split in SPLITS:
        register_coco_nuclei(
            f"dsb2018_{split}",
            root / "annotations" / f"dsb2018_{split}.json",
            root,
            [category["name"] for category in CATEGORIES],
            sem_seg_root=root / "semantic",
            sem_seg_optional=True,
            remedy=(
                f"Run: python datasets/prepare_dsb2018.py stage1_train.zip --output {root}   "
                "(datasets/sample in place of the archive: 32 images that need no download; no "
                "test images). Where the data lies elsewhere, set DETECTRON2_DATASETS to the "
                "folder that holds dsb2018/."
            ),
        )


def register_coco_nuclei(
    name: str,
    json_file,
    image_root,
    thing_classes: Sequence[str],
    *,
    sem_seg_root=None,
    sem_seg_optional: bool = False,
    remedy: str = "",
) -> None:
    """Register a COCO json file (polygons or RLE) under ``name``, to be checked when it is loaded.

    Registering the same again changes nothing; other files or classes replace the former ones.

    Args:
        name: what ``DATASETS.TRAIN`` or ``DATASETS.TEST`` refer to.
        json_file: the annotations.
        image_root: the folder that the json file's ``file_name`` entries are relative to, and must
            not leave.
        thing_classes: the names of the json file's categories in the order of their ids.
        sem_seg_root: the folder of the label maps (0 background, 255 ignored), each a .png named
            as its image is. None: they are painted from the annotations where a model needs them.
        sem_seg_optional: whether they are painted as well if there is no folder ``sem_seg_root``.
        remedy: what to do if files are missing; ends the messages that say so.
    """
    metadata = {
        "json_file": os.fspath(json_file),
        "image_root": os.fspath(image_root),
        "sem_seg_root": None if sem_seg_root is None else os.fspath(sem_seg_root),
        "thing_classes": list(thing_classes),
        "stuff_classes": ["background", *thing_classes],
        "ignore_label": IGNORED,
        "evaluator_type": "coco",
    }
    if name in DatasetCatalog:
        registered = MetadataCatalog.get(name).as_dict()
        if all(registered.get(key) == value for key, value in metadata.items()):
            return
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    load = functools.partial(
        load_coco_nuclei,
        name,
        json_file,
        image_root,
        thing_classes,
        sem_seg_root=sem_seg_root,
        sem_seg_optional=sem_seg_optional,
        remedy=remedy,
    )
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(**metadata)


def check_registered(names: Sequence[str], option: str) -> None:
    """Check that data sets are known to detectron2's ``DatasetCatalog``.

    Args:
        names: of the data sets.
        option: that named them, for the error.

    Raises:
        DatasetError: one is not; the message has the nearest names.
    """
    for name in names:
        try:
            look_up_option(name, DatasetCatalog.list(), option, DatasetError)
        except DatasetError as error:
            raise DatasetError(
                f"{error} Sets of your own are registered by a Python file that the environment "
                "variable DETECTRON2_ENV_MODULE names."
            ) from error


def load_coco_nuclei(
    name: str,
    json_file,
    image_root,
    thing_classes: Sequence[str],
    *,
    sem_seg_root=None,
    sem_seg_optional: bool = False,
    remedy: str = "",
) -> list[dict]:
    """Check a COCO json file and load it by detectron2's ``load_coco_json``.

    Takes the arguments of :func:`register_coco_nuclei`.

    Returns:
        detectron2's standard dataset dicts, one per image; with ``sem_seg_file_name`` if there
        are label maps.

    Raises:
        DatasetError: the json file is missing or malformed, holds no images, repeats an id,
            declares other categories, has annotations of unknown images or categories, with
            ``ignore`` or with a polygon of fewer than 3 points, a file name that leads out of
            ``image_root``, or images or label maps are missing, or several images would share a
            label map.
    """
    content = _read_json(name, Path(json_file), remedy)
    where = f"{name} ({json_file})"
    if not content["images"]:
        raise DatasetError(f"{where}: holds no images. {remedy}".strip())
    _check_entries(where, content)
    _check_categories(where, content, list(thing_classes))
    _check_references(where, content)
    _check_annotations(where, content["annotations"])
    names = [image["file_name"] for image in content["images"]]
    _check_files(where, "images", names, Path(image_root), remedy)
    records = load_coco_json(os.fspath(json_file), os.fspath(image_root), name)
    if sem_seg_root is not None and not (sem_seg_optional and not os.path.isdir(sem_seg_root)):
        _add_label_maps(where, records, Path(sem_seg_root), remedy)
    return records


def _read_json(name: str, json_file: Path, remedy: str) -> dict:
    if not json_file.is_file():
        raise DatasetError(f"{name}: {json_file} does not exist. {remedy}".strip())
    try:
        content = json.loads(json_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(f"{name}: {json_file} is not JSON ({error}).") from error
    missing = [key for key in _KEYS if not (isinstance(content, dict) and key in content)]
    if missing:
        raise DatasetError(f"{name}: {json_file} is not in COCO format, it lacks {missing}.")
    return content


def _check_entries(where: str, content: dict) -> None:
    """Check that entries have the keys that are needed, and ids of their own."""
    for section, keys in _KEYS.items():
        for key in keys:
            lacking = sum(key not in entry for entry in content[section])
            if lacking:
                raise DatasetError(f"{where}: {lacking} entries of '{section}' lack '{key}'.")
        ids = Counter(entry["id"] for entry in content[section])
        repeated = [key for key, count in ids.items() if count > 1]
        if repeated:
            raise DatasetError(f"{where}: '{section}' repeats the id {_first(repeated)}.")


def _check_categories(where: str, content: dict, thing_classes: list[str]) -> None:
    found = {category["id"]: category["name"] for category in content["categories"]}
    if [found[key] for key in sorted(found)] != thing_classes:
        raise DatasetError(
            f"{where}: the categories of the json file are {found}, but the data set is registered "
            f"with the classes {thing_classes} (in the order of the ids). Change either of them."
        )


def _check_references(where: str, content: dict) -> None:
    """Check that every annotation belongs to an image and to a category of the file."""
    for key, section in (("image_id", "images"), ("category_id", "categories")):
        known = {entry["id"] for entry in content[section]}
        unknown = sorted({annotation[key] for annotation in content["annotations"]} - known)
        if unknown:
            raise DatasetError(
                f"{where}: annotations have the {key} {_first(unknown)}, but '{section}' holds "
                f"only {_first(sorted(known))}."
            )


def _check_annotations(where: str, annotations: list[dict]) -> None:
    """Check what detectron2 refuses without a reason, or drops in training only."""
    for annotation in annotations:
        name = f"{where}: the annotation with id {annotation['id']}"
        if annotation.get("ignore", 0):
            raise DatasetError(
                f"{name} has 'ignore', which detectron2 does not know. Write 'iscrowd': 1 for a "
                "region that does not count, or delete it."
            )
        if fault := find_polygon_fault(annotation.get("segmentation")):
            raise DatasetError(f"{name} has {fault}. Delete the polygon, or the annotation.")


def _add_label_maps(where: str, records: list[dict], root: Path, remedy: str) -> None:
    """Give every record ``sem_seg_file_name``."""
    names = [f"{Path(record['file_name']).stem}.png" for record in records]
    shared = [name for name, count in Counter(names).items() if count > 1]
    if shared:
        raise DatasetError(
            f"{where}: several images would share the label map {_first(shared)}. Give the images "
            "names that differ in more than folder and suffix."
        )
    _check_files(where, "label maps", names, root, remedy)
    for record, name in zip(records, names, strict=True):
        record["sem_seg_file_name"] = str(root / name)


def _check_files(where: str, what: str, names: list[str], root: Path, remedy: str) -> None:
    missing = [name for name in names if not safe_join(root, name, where).is_file()]
    if missing:
        raise DatasetError(
            f"{where}: {len(missing)} of {len(names)} {what} are missing below {root}: "
            f"{_first(missing)}. {remedy}".strip()
        )


def _first(values: list, limit: int = 3) -> str:
    shown = ", ".join(str(value) for value in values[:limit])
    return f"{shown} and {len(values) - limit} more" if len(values) > limit else shown
