"""Runs without a network: true objects of the sample's val images with known kinds of errors."""

import json

import numpy as np
import pycocotools.mask as mask_util
from evaluation_helpers import encode

from unet_sharp_det.evaluation.readers.truth import CocoTruth
from unet_sharp_det.evaluation.record import EvaluationOptions, EvaluationRecord


def perturb(masks, generator, rate):
    """Masks with errors, each of the rate: dropped, merged with the next, split, invented."""
    found = []
    masks = list(masks)
    while masks:
        mask, kind = masks.pop(), generator.random() / rate
        if kind < 1:
            continue
        if kind < 2 and masks:
            mask = mask | masks.pop()
        elif kind < 3:
            rows = np.flatnonzero(mask.any(axis=1))
            upper = mask.copy()
            upper[int(np.median(rows)) :] = False
            found.append(upper)
            mask = mask & ~upper
        elif kind < 4:
            found.append(np.roll(mask, 60, axis=(0, 1)))
        found.append(np.roll(mask, generator.integers(-1, 2, 2), axis=(0, 1)))
    return [mask for mask in found if mask.any()]


def make_results(truth, seed, rate):
    """COCO results for all images, with random scores of .4 to 1."""
    generator, results = np.random.default_rng(seed), []
    for image_id in truth.records:
        true = truth.instance_map(image_id)
        masks = [true.labels == number for number in range(1, len(true) + 1)]
        for mask in perturb(masks, generator, rate):
            rle = encode(mask)
            box, score = mask_util.toBbox(rle).tolist(), 1 - 0.6 * generator.random()
            fields = {"image_id": image_id, "category_id": 1, "bbox": box, "score": score}
            results.append({**fields, "segmentation": rle})
    return results


def make_run(folder, data, seed, rate, options=None):
    """Write what a training leaves in its OUTPUT_DIR."""
    truth_file = data / "annotations" / "dsb2018_val.json"
    inference = folder / "inference"
    inference.mkdir(parents=True)
    results = make_results(CocoTruth(truth_file), seed, rate)
    (inference / "coco_instances_results.json").write_text(json.dumps(results))
    EvaluationRecord(
        "dsb2018_val",
        str(truth_file),
        "coco_instances_results.json",
        str(data),
        options=options or EvaluationOptions(),
    ).write(inference)
    lines = [
        {"iteration": i, "total_loss": 2 / (1 + i), "loss_mask": 1 / (1 + i), "lr": 1e-3}
        for i in range(0, 100, 20)
    ]
    lines.append({"iteration": 99, "segm/AP": 40.0, "validation/total_loss": 0.5})
    (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (folder / "config.yaml").write_text(f"SEED: {seed}\nMODEL:\n  DEVICE: cpu\n")
    return folder
