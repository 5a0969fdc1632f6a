"""Anchor shapes against the nuclei."""

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from benchmarks.measure import table
from benchmarks.options import R_50, add_config, new_parser, read_config


def main(argv) -> None:
    parser = new_parser(argv[0], __doc__)
    add_config(parser, default=R_50)
    print(compare_anchors(read_config(parser.parse_args(argv[1:]))))


def compare_anchors(cfg: CfgNode) -> str:
    """How the config's anchors and limits fit its training and test data.

    Returns:
        str: two tables. The share of the nuclei whose shape an anchor matches at IoU >= .5 when
        their centres agree, for the config's sizes and detectron2's; and the recall that a limit
        of detections per image leaves.
    """
    records = [
        record
        for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
        for record in DatasetCatalog.get(name)
    ]
    return _anchor_table(cfg, records) + "\n" + _limit_table(cfg, records)


def _limit_table(cfg: CfgNode, records: list[dict]) -> str:
    counts = np.array([len(record["annotations"]) for record in records])
    limits = sorted({100, 200, 400, cfg.TEST.DETECTIONS_PER_IMAGE})
    rows = [[limit, np.minimum(counts, limit).sum() / counts.sum()] for limit in limits]
    title = f"Detections per image; the images hold up to {counts.max()} nuclei"
    return table(title, ["limit", "largest possible recall"], rows)


def _anchor_table(cfg: CfgNode, records: list[dict]) -> str:
    boxes = np.array([n["bbox"][2:] for record in records for n in record["annotations"]])
    ratios = cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS[0]
    ours = [size for level in cfg.MODEL.ANCHOR_GENERATOR.SIZES for size in level]
    default = [32, 64, 128, 256, 512]
    scale = cfg.INPUT.SCALE_TEST or 1.0
    rows = [
        [str(sizes), factor, _matched(boxes * factor, sizes, ratios)]
        for sizes, factor in ((ours, scale), (ours, 1.0), (default, scale), (default, 1.0))
    ]
    title = f"Anchors on {len(boxes)} nuclei"
    return table(title, ["sizes", "image scale", "share matched"], rows)


def _matched(boxes: np.ndarray, sizes: list[float], ratios: list[float]) -> float:
    width, height = boxes.T
    best = np.zeros(len(boxes))
    for size in sizes:
        for ratio in ratios:
            w, h = size / ratio**0.5, size * ratio**0.5
            inner = np.minimum(width, w) * np.minimum(height, h)
            best = np.maximum(best, inner / (width * height + w * h - inner))
    return float((best >= 0.5).mean())
