"""Checks of COCO results against the ground truth that they are to be compared with."""

import reprlib
from collections import defaultdict

from pycocotools.coco import COCO

from ...data.coco_json import is_box, is_finite, is_id
from ...errors import DatasetError
from ...masks import to_rles


def check_results(truth: COCO, results: list[dict], shape_key: str, where: str) -> list[dict]:
    """Check that COCO's evaluation can rank and place results.

    Args:
        truth: images and categories.
        results: in COCO's format.
        shape_key: "bbox" or "segmentation", what is to be evaluated.
        where: what the errors name.

    Returns:
        the results, with masks of any form as compressed RLEs.

    Raises:
        DatasetError: a result is malformed, or of an image or category that ``truth`` lacks.
    """
    numbers = defaultdict(list)
    for number, result in enumerate(results):
        fault = _find_fault(truth, result, shape_key)
        if fault:
            raise DatasetError(f"{_name(number, result, where)} {fault}")
        numbers[result["image_id"]].append(number)
    if shape_key != "segmentation":
        return results
    checked = list(results)
    for image_id, of_image in numbers.items():
        image = truth.imgs[image_id]
        names = [_name(number, results[number], where) for number in of_image]
        segmentations = [results[number]["segmentation"] for number in of_image]
        rles = to_rles(segmentations, (image["height"], image["width"]), names.__getitem__)
        for number, rle in zip(of_image, rles, strict=True):
            checked[number] = {**results[number], "segmentation": rle}
    return checked


def find_category_fault(truth: COCO, category_id) -> str | None:
    """Say what is wrong with a result's category, and the fix; None: nothing."""
    if is_id(category_id) and category_id in truth.cats:
        return None
    return (
        f"has the category {reprlib.repr(category_id)}; the ground truth has {sorted(truth.cats)}. "
        "Write the ids of its categories, not class indices."
    )


def _name(number: int, result: dict, where: str) -> str:
    image_id = reprlib.repr(result.get("image_id"))
    return f"{where}: result {number} (counted from 0) of image {image_id}"


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
        return f"has the score {reprlib.repr(result['score'])}, which has no rank: write a number."
    if shape_key == "bbox" and not is_box(result["bbox"]):
        box = reprlib.repr(result["bbox"])
        return f"has the bbox {box}. Write its x, y, width and height in pixels."
    return None
