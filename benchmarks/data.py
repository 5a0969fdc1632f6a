"""Converter against plain decoding, COCO evaluation against pycocotools, and anchor shapes."""

import contextlib
import functools
import io
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from benchmarks.measure import table, take_turns
from benchmarks.measures import coco_programs, mask_ap
from benchmarks.synthetic import coco_eval_workload
from unet_sharp_det.data.dsb2018_convert import convert_dsb2018


def benchmark_converter(source: str, repeats: int, workers: int | None = None) -> str:
    """Images per second of the converter and of decoding the same PNG files with as many workers.

    Args:
        source: a folder in Kaggle's layout.
        repeats: counted runs; medians are reported.
        workers: processes; None: one per core.
    """
    files = [str(path) for path in sorted(Path(source).glob("**/*.png"))]
    images = sum(Path(path).parent.name == "images" for path in files)

    def convert():
        with tempfile.TemporaryDirectory() as root, contextlib.redirect_stderr(io.StringIO()):
            convert_dsb2018(source, root, workers=workers)

    def decode():
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(_decode, files, chunksize=64))

    seconds = take_turns({"convert_dsb2018": convert, "decode only": decode}, repeats)
    rows = [
        [name, images / value, value / seconds["decode only"]] for name, value in seconds.items()
    ]
    title = f"Converter, {images} images, {len(files) - images} masks"
    return table(title, ["", "images/s", "x time of decoding"], rows)


def benchmark_evaluation(images: int, detections: int, repeats: int) -> str:
    """CPU seconds of mask AP on synthetic nuclei: faster-coco-eval against pycocotools.

    Args:
        images, detections: size of the workload, detections per image.
        repeats: counted runs; medians are reported.
    """
    truth, results = coco_eval_workload(images, detections, seed=0)
    ap = {}

    def evaluate(name, classes) -> None:
        ap[name] = mask_ap(truth, results, *classes)

    programs = coco_programs()
    steps = {name: functools.partial(evaluate, name, programs[name]) for name in programs}
    seconds = take_turns(steps, repeats, clock=time.process_time)
    rows = [[name, ap[name], seconds[name], seconds["pycocotools"] / seconds[name]] for name in ap]
    title = f"Mask AP, {images} images x {detections} detections"
    return table(title, ["", "AP", "CPU s", "times faster"], rows)


def benchmark_anchors(cfg: CfgNode) -> str:
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


def _decode(path: str) -> None:
    cv2.imread(path, cv2.IMREAD_UNCHANGED)
