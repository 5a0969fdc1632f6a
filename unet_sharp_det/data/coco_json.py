"""Data sets in COCO's format: read, checked in every value, and completed, for all that use them.

In JSON any value may be of any type. What passes here can be given to detectron2 and pycocotools.
"""

import math
import numbers
import os
import reprlib
from collections import defaultdict

import pycocotools.mask as mask_util

from ..errors import DatasetError
from ..files import read_json
from ..images.formats import MAX_PIXELS
from ..masks import mask_areas, to_rles

_KEYS = {
    "images": ("id", "file_name", "height", "width"),
    "categories": ("id", "name"),
    "annotations": ("id", "image_id", "category_id"),
}
_FORM = "Give a JSON object with the lists 'images', 'annotations' and 'categories'."


def read_coco(path, remedy: str = "") -> dict:
    """Read a COCO data set that passes :func:`check_coco`; ``remedy`` says what to do if there is
    no file, or no image in it."""
    remedy = remedy or _FORM
    content = read_json(path, remedy=remedy)
    if isinstance(content, dict) and content.get("images") == []:
        raise DatasetError(f"{path}: holds no images. {remedy}")
    check_coco(content, os.fspath(path))
    return content


def check_coco(content: dict, where: str) -> None:
    """Check a COCO data set for training and evaluation, and complete it in place.

    A missing ``iscrowd`` is 0, ``bbox`` and ``area`` are those of the mask, ``area`` without a mask
    that of the box; plain run lengths are compressed; an empty ``segmentation`` is taken out.

    Raises:
        DatasetError: see :func:`check_ids`; or a value is of another type or range than COCO's, an
            object has neither box nor mask, none of its pixels in the image, or all are crowd.
    """
    check_ids(content, where)
    annotations = defaultdict(list)
    for annotation in content["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    for image in content["images"]:
        _check_image(image, f"{where}: the image with id {reprlib.repr(image['id'])}")
        _complete(annotations[image["id"]], (image["height"], image["width"]), where)
    check_crowd(content["annotations"], where)


def check_ids(content, where: str) -> None:
    """Check that a COCO data set has its lists, and that their entries belong together.

    Raises:
        DatasetError: a list, a key, an image or category is missing, or an id is repeated or of
            another type.
    """
    for section, keys in _KEYS.items():
        _check_entries(content, section, keys, where)
    for section in ("images", "categories"):
        if not content[section]:
            raise DatasetError(f"{where}: holds no {section}. {_FORM}")
    if len({type(image["id"]) for image in content["images"]}) > 1:
        raise DatasetError(f"{where}: ids of 'images' are numbers and texts. Write one kind.")
    for category in content["categories"]:
        if not isinstance(category["id"], int) or not _is_text(category["name"]):
            raise DatasetError(
                f"{where}: has the category {reprlib.repr(category)}. Write a whole number as its "
                "id, and a text as its name."
            )
    for key, section in (("image_id", "images"), ("category_id", "categories")):
        known = {entry["id"] for entry in content[section]}
        for annotation in content["annotations"]:
            if not is_id(annotation[key]) or annotation[key] not in known:
                raise DatasetError(
                    f"{_name(annotation, where)} has the {key} {reprlib.repr(annotation[key])}, "
                    f"which is no id of '{section}'. Write one of {first_few(sorted(known))}."
                )


def check_crowd(annotations: list[dict], where: str) -> None:
    """Raise a DatasetError if there are annotations, but all of crowds."""
    if annotations and all(each.get("iscrowd") == 1 for each in annotations):
        raise DatasetError(
            f"{where}: all {len(annotations)} annotations have 'iscrowd' 1, regions "
            "that do not count. Write 'iscrowd': 0 for single objects, also where masks are RLE."
        )


def is_finite(value) -> bool:
    """Whether a value is a number that a float can hold."""
    try:
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return is_number and math.isfinite(value)
    except OverflowError:  # JSON has whole numbers of any length.
        return False


def is_box(value) -> bool:
    """Whether a value is a list of four finite numbers, of which no side is negative."""
    if not isinstance(value, list | tuple) or len(value) != 4 or not all(map(is_finite, value)):
        return False
    return value[2] >= 0 and value[3] >= 0


def is_id(value) -> bool:
    """Whether a value is a text or a whole number of at most 64 bits."""
    return _is_text(value) or type(value) is int and -(2**63) <= value < 2**63


def first_few(values: list) -> str:
    """The first three of some values, and how many more there are."""
    shown = ", ".join(repr(value)[-200:] for value in values[:3])
    return f"{shown} and {len(values) - 3} more" if len(values) > 3 else shown


def _is_text(value) -> bool:
    """Whether a value is a text that files can hold, without half a character."""
    return isinstance(value, str) and value.encode("utf-8", "ignore").decode() == value


def _check_entries(content, section: str, keys: tuple, where: str) -> None:
    entries = content.get(section) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DatasetError(f"{where}: has no list '{section}' of JSON objects. {_FORM}")
    ids = set()
    for number, entry in enumerate(entries):
        name = f"{where}: entry {number} (counted from 0) of '{section}'"
        for key in keys:
            if key not in entry:
                raise DatasetError(f"{name} lacks '{key}'. Write it.")
        shown = reprlib.repr(entry["id"])
        if not is_id(entry["id"]):
            raise DatasetError(f"{name} has the id {shown}. Write a whole number or a text.")
        if entry["id"] in ids:
            raise DatasetError(f"{where}: '{section}' repeats the id {shown}. Give each its own.")
        ids.add(entry["id"])


def _check_image(image: dict, name: str) -> None:
    for key, is_optional in (("file_name", False), ("look", True)):
        value = image.get(key)
        if not _is_text(value) and not (is_optional and value is None):
            raise DatasetError(f"{name} has the {key} {reprlib.repr(value)}. Write a text.")
    height, width = image["height"], image["width"]
    are_sides = all(type(side) is int and side >= 1 for side in (height, width))
    if not are_sides or height * width > MAX_PIXELS:
        raise DatasetError(
            f"{name} has the height {reprlib.repr(height)} and the width {reprlib.repr(width)}. "
            f"Write whole numbers of pixels, {MAX_PIXELS:,} or fewer in all."
        )


def _complete(annotations: list[dict], shape: tuple[int, int], where: str) -> None:
    for annotation in annotations:
        _check_flags(annotation, where)
        if annotation.get("segmentation") in (None, []):
            annotation.pop("segmentation", None)
    masked = [annotation for annotation in annotations if "segmentation" in annotation]
    rles = to_rles(
        [annotation["segmentation"] for annotation in masked],
        shape,
        lambda index: _name(masked[index], where),
    )
    for annotation, rle, area in zip(masked, rles, mask_areas(rles).tolist(), strict=True):
        if not area:
            raise DatasetError(
                f"{_name(annotation, where)} has a mask without a pixel in its image. Delete it."
            )
        if isinstance(annotation["segmentation"], dict):
            annotation["segmentation"] = rle
        if "bbox" not in annotation:
            annotation["bbox"] = mask_util.toBbox(rle).tolist()
        annotation.setdefault("area", area)
    for annotation in annotations:
        _check_box(annotation, shape, where)
        area = annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
        if not is_finite(area) or area <= 0:
            raise DatasetError(
                f"{_name(annotation, where)} has the area {reprlib.repr(area)}. Write its number "
                "of pixels, or leave it out."
            )


def _check_flags(annotation: dict, where: str) -> None:
    is_crowd = annotation.get("iscrowd", 0)
    if is_crowd not in (0, 1):
        raise DatasetError(
            f"{_name(annotation, where)} has the iscrowd {reprlib.repr(is_crowd)}. Write 0 for an "
            "object, 1 for a region that does not count."
        )
    annotation["iscrowd"] = int(is_crowd)
    if annotation.get("ignore", 0):
        raise DatasetError(
            f"{_name(annotation, where)} has 'ignore', which detectron2 does not know. Write "
            "'iscrowd': 1 for a region that does not count, or delete it."
        )


def _check_box(annotation: dict, shape: tuple[int, int], where: str) -> None:
    if "bbox" not in annotation:
        raise DatasetError(
            f"{_name(annotation, where)} has neither 'segmentation' nor 'bbox'. Write one of both."
        )
    box = annotation["bbox"]
    if not is_box(box) or not all(
        -side <= low < side and 0 < length and 0 < low + length <= 2 * side
        for low, length, side in zip(box[:2], box[2:], shape[::-1], strict=True)
    ):
        raise DatasetError(
            f"{_name(annotation, where)} has the bbox {reprlib.repr(box)} in an image of (height, "
            f"width) {shape}. Write its x, y, width and height in pixels."
        )


def _name(annotation: dict, where: str) -> str:
    return f"{where}: the annotation with id {reprlib.repr(annotation['id'])}"
