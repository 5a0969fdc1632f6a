"""Synthetic ground truth and results in COCO's format, to test evaluators."""

import numpy as np
import pycocotools.mask as mask_util

IMAGE_SIDE = 256
_ELLIPSE_VERTICES = 24


def coco_eval_workload(images: int, detections: int, seed: int) -> tuple[dict, list[dict]]:
    """Make ellipses like the nuclei of a microscope image, and imperfect detections of them.

    An image of 256 x 256 pixels holds between 0.5 and 1.5 times ``detections`` detections. About
    70 % of them are a ground truth object with its centre and axes shifted, the others lie
    anywhere. Scores are multiples of 0.01, hence tied. With 3 images or more, the first has no
    ground truth and the second no detection.

    Args:
        images: number of images, 1 or more, with ids from 1.
        detections: mean number of detections in an image, 1 or more.
        seed: seed of the random numbers; the same seed gives the same data.

    Returns:
        tuple[dict, list[dict]]: a COCO data set (images, one category, annotations with
        compressed RLE, no crowd) and a list of COCO results (bbox as XYWH in pixels, score, RLE).
    """
    generator = np.random.default_rng(seed)
    annotations, results = [], []
    for image_id in range(1, images + 1):
        truth, found = _draw_image(generator, detections)
        if images < 3 or image_id != 1:
            annotations += [_record(rle, image_id) for rle in _encode_ellipses(truth)]
        if images < 3 or image_id != 2:
            results += [
                {**_record(rle, image_id), "score": round(generator.random(), 2)}
                for rle in _encode_ellipses(found)
            ]
    for annotation_id, annotation in enumerate(annotations, start=1):
        area = int(mask_util.area(annotation["segmentation"]))
        annotation.update(id=annotation_id, iscrowd=0, area=area)
    dataset = {
        "images": [_image_record(image_id) for image_id in range(1, images + 1)],
        "categories": [{"id": 1, "name": "nucleus"}],
        "annotations": annotations,
    }
    return dataset, results


def _image_record(image_id: int) -> dict:
    size = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    return {"id": image_id, "file_name": f"{image_id:06d}.png", **size}


def _draw_image(generator, detections: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw (ground truth, detections): (N, 5) each, rows of x, y, two radii, angle in radians."""
    count = int(generator.integers((detections + 1) // 2, detections * 3 // 2 + 1))
    low = [0, 0, 3, 3, 0]
    high = [IMAGE_SIDE, IMAGE_SIDE, 14, 14, np.pi]
    if generator.random() < 0.1:
        high[2:4] = [60, 60]
    found = generator.uniform(low, high, (count, 5))
    truth = found[: max(1, round(0.7 * count))].copy()
    truth[:, :2] += generator.normal(0, 1.0, (len(truth), 2))
    truth[:, 2:4] *= generator.uniform(0.85, 1.15, (len(truth), 2))
    return truth, found


def _encode_ellipses(ellipses: np.ndarray) -> list[dict]:
    """Encode the ellipses that have a pixel inside of the image as RLE."""
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_VERTICES, endpoint=False)
    x, y, a, b, turn = ellipses.T[:, :, None]
    along, across = a * np.cos(angles), b * np.sin(angles)
    points = np.stack(
        [
            x + along * np.cos(turn) - across * np.sin(turn),
            y + along * np.sin(turn) + across * np.cos(turn),
        ],
        axis=-1,
    ).clip(0, IMAGE_SIDE)
    polygons = points.reshape(len(ellipses), -1).tolist()
    rles = mask_util.frPyObjects(polygons, IMAGE_SIDE, IMAGE_SIDE)
    return [rle for rle in rles if mask_util.area(rle) > 0]


def _record(rle: dict, image_id: int) -> dict:
    return {
        "image_id": image_id,
        "category_id": 1,
        "bbox": mask_util.toBbox(rle).tolist(),
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("utf-8")},
    }
