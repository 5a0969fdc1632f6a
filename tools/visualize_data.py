#!/usr/bin/env python
"""Draw the nuclei of a data set, as annotated, as augmented for training, or as predicted.

Of volumes, three planes are drawn, as annotated. `unet-sharp-det predict` draws predictions.

Examples:
    python tools/visualize_data.py --dataset dsb2018_train --limit 8
    python tools/visualize_data.py --config-file configs/NAME.yaml --source dataloader
    python tools/visualize_data.py --dataset dsb2018_val --montage output/predictions.png \\
        --predictions output/inference/coco_instances_results.json --threshold 0.5
"""

if __name__ == "__main__":
    import _start  # noqa: F401

import argparse
import math
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.data.detection_utils import convert_image_to_rgb

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data import NucleiDatasetMapper
from unet_sharp_det.data.catalog import check_registered
from unet_sharp_det.errors import UserError, run_cli
from unet_sharp_det.evaluation.readers.predictions import check_entry
from unet_sharp_det.files import atomic_path, read_json, safe_join
from unet_sharp_det.images.decoding import read_picture
from unet_sharp_det.masks.drawing import (
    BACKGROUND,
    distinct_colors,
    draw_label_contours,
    draw_planes,
    montage,
    upscale,
    upscale_factor,
)
from unet_sharp_det.masks.instance_maps import InstanceMap
from unet_sharp_det.volumes import read_labels, read_volume

MONTAGE_WIDTH = 1440
CAPTION_HEIGHT = 28
TEXT_COLOR = (240, 240, 240)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", default="", help="YAML file; default: the defaults")
    add("--dataset", help="registered name; default: the config's first one")
    what = parser.add_mutually_exclusive_group()
    help_ = "ground truth as annotated (default), or after the augmentations of training"
    sources = ["annotation", "dataloader"]
    what.add_argument("--source", choices=sources, default="annotation", help=help_)
    what.add_argument("--predictions", type=Path, help="a coco_instances_results.json")
    add("--threshold", type=float, default=0.5, help="least score of a prediction (default: 0.5)")
    add("--output-dir", type=Path, default=Path("output/visualization"))
    add("--limit", type=int, default=20, help="number of images (default: 20)")
    add("--montage", type=Path, help="PNG file for all in one picture")
    add("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs of the config")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    if args.limit < 1:
        raise UserError(f"--limit must be 1 or more, not {args.limit}.")
    cfg = setup_cfg(args.config_file, args.opts)
    key = "TEST" if args.predictions else "TRAIN"
    name = args.dataset or next(iter(cfg.DATASETS[key]), None)
    if name is None:
        raise UserError(f"Give --dataset NAME, or a --config-file that sets DATASETS.{key}.")
    check_registered([name], "--dataset")
    records = DatasetCatalog.get(name)[: args.limit]
    if any("volume_files" in record for record in records):
        pictures = draw_volumes(records)
    elif args.predictions:
        pictures = draw_predictions(records, load_results(args.predictions, args.threshold))
    elif args.source == "dataloader":
        pictures = draw_augmented(records, cfg)
    else:
        pictures = draw_annotations(records)
    drawn = []
    for record, picture in zip(records, pictures, strict=True):
        stem = Path(record["file_name"]).stem
        save(safe_join(args.output_dir, f"{record['image_id']}_{stem}.png", name), picture)
        drawn += [picture] if args.montage else []
    if args.montage:
        columns = 1 if args.predictions else math.ceil(math.sqrt(len(drawn)))
        save(args.montage, montage(drawn, columns, cell_width=MONTAGE_WIDTH // columns))
    return 0


def draw_annotations(records):
    for record in records:
        image = read_picture(record["file_name"])
        labels = label_map(record.get("annotations", []), record, image)
        yield overlay(image, labels, "ground truth")


def draw_volumes(records):
    for record in records:
        volume = read_volume(record["volume_files"][0])
        labels = read_labels(record["label_file"], like=volume).array[0]
        planes = draw_planes(volume.array[0], labels, volume.geometry.spacing[::-1])
        yield add_caption(planes, f"ground truth: {record['image_id']}")


def draw_augmented(records, cfg):
    cfg = cfg.clone()
    # Masks are drawn whatever the model takes.
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MASK_FORMAT = "bitmask"
    mapper = NucleiDatasetMapper(cfg, is_train=True)
    for record in records:
        mapped = mapper(record)
        image = mapped["image"].permute(1, 2, 0)
        if cfg.INPUT.FORMAT == "CHANNELS":
            image = np.pad(image[:, :, :3], ((0, 0), (0, 0), (0, max(0, 3 - image.shape[2]))))
        else:
            image = convert_image_to_rgb(image, cfg.INPUT.FORMAT)
        labels = np.zeros(image.shape[:2], np.int32)
        for number, mask in enumerate(mapped["instances"].gt_masks.tensor.numpy(), 1):
            labels[mask] = number
        yield overlay(image, labels, "augmented")


def draw_predictions(records, results):
    """Draw image | ground truth | prediction, each with its caption."""
    for record in records:
        image = read_picture(record["file_name"])
        plain = upscale(image, upscale_factor(*image.shape[:2]))
        truth = label_map(record.get("annotations", []), record, image)
        found = label_map(results[record["image_id"]], record, image)
        panels = [
            add_caption(plain, Path(record["file_name"]).stem),
            overlay(image, truth, "ground truth"),
            overlay(image, found, "prediction"),
        ]
        yield montage(panels, columns=len(panels))


def load_results(path: Path, threshold: float) -> dict[int, list[dict]]:
    """COCO results with masks of at least ``threshold``, by image id."""
    results = read_json(
        path, list, "Give the coco_instances_results.json that evaluation writes into OUTPUT_DIR."
    )
    by_image = defaultdict(list)
    for number, result in enumerate(results):
        check_entry(result, f"{path}: result {number} (counted from 0)", with_score=True)
        if result["score"] >= threshold:
            by_image[result["image_id"]].append(result)
    return by_image


def label_map(entries: list[dict], record: dict, image: np.ndarray) -> np.ndarray:
    """Paint the polygons or RLEs of annotations or results as a label map (H, W)."""
    segmentations = [entry.get("segmentation") for entry in entries]
    shape, where = image.shape[:2], record["file_name"]
    return InstanceMap.from_segmentations(segmentations, shape, where).labels


def overlay(image: np.ndarray, labels: np.ndarray, title: str) -> np.ndarray:
    """Draw the contours of a label map (H, W) on the enlarged image, under title and count."""
    scale, count = upscale_factor(*image.shape[:2]), int(labels.max(initial=0))
    image, labels, colors = upscale(image, scale), upscale(labels, scale), distinct_colors(count)
    drawn = draw_label_contours(image, labels, colors, thickness=min(scale, 2))
    return add_caption(drawn, f"{title}: {count} {'nucleus' if count == 1 else 'nuclei'}")


def add_caption(image: np.ndarray, text: str) -> np.ndarray:
    """Put a strip of ``CAPTION_HEIGHT`` rows with ``text``, shrunk to fit the width, on top."""
    width = image.shape[1]
    strip = np.full((CAPTION_HEIGHT, width, 3), BACKGROUND, dtype=np.uint8)
    font_scale = 0.6
    while font_scale > 0.1 and cv2.getTextSize(text, FONT, font_scale, 1)[0][0] > width - 12:
        font_scale -= 0.02
    origin = (4, CAPTION_HEIGHT - 9)
    cv2.putText(strip, text, origin, FONT, font_scale, TEXT_COLOR, 1, cv2.LINE_AA)
    return np.concatenate([strip, image])


def save(path: Path, picture: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), picture[:, :, ::-1])
    print(path)


if __name__ == "__main__":
    run_cli(main)
