"""Small COCO data sets, and predictions as a detectron2 model returns them."""

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures import Boxes, Instances


def rectangle_mask(height, width, box):
    """A (height, width) bool mask of ``box``: x0, y0, x1, y1 in pixels, ends exclusive."""
    mask = np.zeros((height, width), dtype=bool)
    x0, y0, x1, y1 = box
    mask[y0:y1, x0:x1] = True
    return mask


def encode(mask):
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("utf-8")}


def coco_dataset(images, size=(64, 64)):
    """A COCO dict of one class; ``images`` maps an image id to its boxes."""
    annotations = []
    for image_id, boxes in images.items():
        for box in boxes:
            mask = rectangle_mask(*size, box)
            x0, y0, x1, y1 = box
            annotations.append(
                {
                    "id": 1 + len(annotations),
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": encode(mask),
                }
            )
    records = [
        {"id": image_id, "file_name": f"{image_id}.png", "height": size[0], "width": size[1]}
        for image_id in images
    ]
    categories = [{"id": 1, "name": "nucleus"}]
    return {"images": records, "annotations": annotations, "categories": categories}


def detection(box, score=0.9, image_id=1, size=(64, 64), **changes):
    """A COCO result whose mask fills its box."""
    x0, y0, x1, y1 = box
    entry = {"image_id": image_id, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
    entry |= {"segmentation": encode(rectangle_mask(*size, box)), "score": score}
    return {**entry, **changes}


def instances(boxes, scores=None, size=(64, 64), classes=None):
    """Instances whose masks fill their boxes."""
    result = Instances(size)
    result.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    result.scores = torch.tensor(scores if scores is not None else [0.9] * len(boxes))
    result.pred_classes = torch.tensor(classes or [0] * len(boxes), dtype=torch.int64)
    masks = [rectangle_mask(*size, box) for box in boxes]
    result.pred_masks = torch.tensor(np.array(masks, dtype=bool).reshape(-1, *size))
    return result


def process(evaluator, predictions):
    """Give an evaluator ``{image_id: Instances}``, and return its results."""
    evaluator.reset()
    for image_id, found in predictions.items():
        record = {"image_id": image_id, "file_name": f"{image_id}.png"}
        evaluator.process([record], [{"instances": found}])
    return evaluator.evaluate()
