"""Checks of what comes from COCO's JSON, where any value may be of any type."""

import math
import numbers

from pycocotools.coco import COCO

from unet_sharp_det.errors import DatasetError

# What an annotation or a result has to say by each key.
MEANINGS = {
    "area": "its number of pixels",
    "bbox": "its x, y, width and height in pixels",
    "segmentation": "its mask",
}


def is_finite(value) -> bool:
    """Whether a value is a number that a float can hold."""
    try:
        return isinstance(value, numbers.Real) and math.isfinite(value)
    except OverflowError:  # JSON has whole numbers of any length.
        return False


def is_box(value) -> bool:
    """Whether a value is a list of four finite numbers."""
    return isinstance(value, list | tuple) and len(value) == 4 and all(map(is_finite, value))


def is_id(value) -> bool:
    """Whether a value is a text or a whole number of at most 64 bits."""
    return isinstance(value, str) or isinstance(value, int) and -(2**63) <= value < 2**63


def check_results(truth: COCO, results: list[dict], shape_key: str, name: str) -> None:
    """Check that COCO's evaluation can rank and place results.

    Args:
        truth: images and categories.
        results: in COCO's format.
        shape_key: "bbox" or "segmentation", what is to be evaluated.
        name: what the errors call the results.

    Raises:
        DatasetError: a result is malformed, or of an image or category that ``truth`` lacks.
    """
    for number, result in enumerate(results):
        fault = _find_fault(truth, result, shape_key)
        if fault:
            image = result.get("image_id")
            raise DatasetError(f"{name}: result {number} (counted from 0) of image {image} {fault}")


def find_category_fault(truth: COCO, category_id) -> str | None:
    """Say what is wrong with a result's category, and the fix; None: nothing."""
    if is_id(category_id) and category_id in truth.cats:
        return None
    known = sorted(truth.cats, key=str)
    return (
        f"has the category {category_id}; the ground truth has {known}. Write the ids of its "
        "categories, not class indices."
    )


def _find_fault(truth: COCO, result: dict, shape_key: str) -> str | None:
    missing = {"image_id", "category_id", "score", shape_key} - set(result)
    if missing:
        return f"has no {sorted(missing)}, which COCO's results need."
    if not is_id(result["image_id"]) or result["image_id"] not in truth.imgs:
        return "is of an image that the ground truth does not have: is it the same data set?"
    category_fault = find_category_fault(truth, result["category_id"])
    if category_fault:
        return category_fault
    if not is_finite(result["score"]):
        return f"has the score {result['score']}, which has no rank: write a finite number."
    if shape_key == "bbox":
        box = result["bbox"]
        return None if is_box(box) else f"has the bbox {box}: write {MEANINGS['bbox']}."
    return _find_mask_fault(result["segmentation"], truth.imgs[result["image_id"]])


def _find_mask_fault(mask, image: dict) -> str | None:
    if not isinstance(mask, dict) or not isinstance(mask.get("counts"), str | bytes):
        return "has a segmentation that is no compressed RLE: encode it with pycocotools.mask."
    size, found = [image.get("height"), image.get("width")], list(mask.get("size", ()))
    if None not in size and found != size:
        return (
            f"has a mask of {found} (height, width), but the image has {size}: "
            "resize the prediction to the size of the image."
        )
    return None
