"""COCO data sets: the objects of an image with their scores, and of several images joined."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from ..data.coco_json import check_ids
from ..files import read_json
from ..masks import encode_mask
from ..masks.instances import SparseInstances
from .write import OutputContext

_INFO = {"description": "Predictions of unet_sharp_det"}


def write_coco(instances: SparseInstances, context: OutputContext, path: Path) -> None:
    """Write a COCO data set of one image, whose annotations have a ``score``."""
    height, width = instances.shape
    name = _file_name(context.source.name, context.source.suffix)
    image = {"id": 1, "file_name": name, "height": height, "width": width}
    categories = [{"id": c, "name": name} for c, name in enumerate(context.class_names, 1)]
    head = {"info": _INFO, "images": [image], "categories": categories}
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1] + ', "annotations": [')
        for number, annotation in enumerate(_annotations(instances)):
            file.write((",\n" if number else "\n") + json.dumps(annotation))
        file.write("\n]}\n")


def merge_coco(paths: Sequence) -> dict:
    """Join COCO data sets: images and annotations get new ids, categories are those of all names.

    Args:
        paths: of the files, in the order that the images get their ids in.

    Raises:
        DatasetError: a file is missing, no COCO data set with images, or has an annotation of a
            category that it does not name.
    """
    merged = {"info": _INFO, "images": [], "categories": [], "annotations": []}
    category_ids = {}
    for path in paths:
        data = read_json(path)
        check_ids(data, str(path))
        names = {category["id"]: category["name"] for category in data["categories"]}
        for name in names.values():
            if name not in category_ids:
                category_ids[name] = len(category_ids) + 1
                merged["categories"].append({"id": category_ids[name], "name": name})
        image_ids = {}
        for image in data["images"]:
            image_ids[image["id"]] = len(merged["images"]) + 1
            merged["images"].append({**image, "id": image_ids[image["id"]]})
        for annotation in data["annotations"]:
            ids = {
                "id": len(merged["annotations"]) + 1,
                "image_id": image_ids[annotation["image_id"]],
                "category_id": category_ids[names[annotation["category_id"]]],
            }
            merged["annotations"].append({**annotation, **ids})
    return merged


def _file_name(name: str, suffix: str) -> str:
    """Return ``a_z003.tif`` of the plane ``a.tif[z=3]``."""
    if not suffix:
        return name
    path = PurePath(re.sub(r"\[[^\[\]]*\]$", "", name))
    return f"{path.stem}{suffix}{path.suffix}"


def _annotations(instances: SparseInstances) -> Iterator[dict]:
    """Yield one at a time: all RLEs at once take too much memory."""
    columns = instances.boxes, instances.scores, instances.classes, instances.areas
    objects = zip(instances.masks, *(each.tolist() for each in columns), strict=True)
    for number, (mask, (x0, y0, x1, y1), score, category, area) in enumerate(objects, 1):
        yield {
            "id": number,
            "image_id": 1,
            "category_id": category + 1,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": area,
            "iscrowd": 0,
            "score": score,
            "segmentation": encode_mask(mask, instances.shape, y0, x0),
        }
