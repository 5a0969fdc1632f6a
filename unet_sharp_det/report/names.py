"""The names of measures in words. Their code names stay beside them, as hints."""

import re

_WORDS = {
    "DSB_score": "DSB score",
    "cell_AP": "Cell AP",
    "PQ": "Panoptic quality",
    "SQ": "Segmentation quality",
    "RQ": "Recognition quality",
    "AJI": "Aggregated Jaccard index",
    "F1_50": "F1 at IoU .50",
    "precision_50": "Precision at IoU .50",
    "recall": "Found, mean over IoU .50 to .95",
    "recall_50": "Found at IoU .50",
    "missed": "Missed",
    "matched_IoU": "IoU of found objects",
    "boundary_F1": "Boundary F1",
    "count_error": "Count error",
    "count_bias": "Count bias",
    "merges": "Merged objects",
    "splits": "Split objects",
    "IoU": "IoU of the foreground",
    "Dice": "Dice of the foreground",
    "HD95": "Surface distance (HD95)",
    "surface_Dice": "Surface Dice",
}
_SUFFIXES = {
    "_image_mean": "mean over images",
    "_pooled": "all objects together",
    "_slice_mean": "mean over slices",
}
_COCO = {"segm": "Mask", "bbox": "Box"}
_AREAS = {"s": "small", "m": "medium", "l": "large"}


def words_of(name: str, *, long: bool = True) -> str:
    """Return a measure's name in words, e.g. "Panoptic quality, mean over images".

    Args:
        name: code name, e.g. "PQ_image_mean", "segm/AP50" or "Dice_image_mean/liver".
        long: whether to say what the mean is over.
    """
    first, _, rest = name.partition("/")
    if first in _COCO:
        metric = re.sub(r"^AP(\d\d)$", r"AP at IoU .\1", rest)
        metric = re.sub(r"^AP([sml])$", lambda found: f"AP of {_AREAS[found[1]]} objects", metric)
        return f"{_COCO[first]} {metric} (COCO)"
    suffix = next((each for each in _SUFFIXES if first.endswith(each)), "")
    stem = first.removesuffix(suffix)
    words = _WORDS.get(stem) or re.sub(r"^cell_AP(\d\d)$", r"Cell AP at IoU .\1", stem)
    words += f", {_SUFFIXES[suffix]}" if long and suffix else ""
    return f"{words}: {rest}" if rest else words
