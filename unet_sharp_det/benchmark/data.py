"""Converter against plain decoding, COCO evaluation against pycocotools, and anchor shapes."""

import contextlib
import io
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..data.dsb2018_convert import convert_dsb2018
from ..evaluation.synthetic import coco_eval_workload
from .measure import table, take_turns


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
    """CPU seconds of mask AP on synthetic nuclei: faster-coco-eval against pycocotools."""
    from faster_coco_eval import COCO as FasterCOCO
    from faster_coco_eval import COCOeval_faster

    truth, results = coco_eval_workload(images, detections, seed=0)

    def evaluate(coco_class, eval_class) -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = coco_class()
            coco.dataset = truth
            coco.createIndex()
            evaluation = eval_class(coco, coco.loadRes(results), "segm")
            evaluation.params.maxDets = [1, 100, 500]
            evaluation.evaluate()
            evaluation.accumulate()
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        return float(precision[precision > -1].mean())

    steps = {
        "pycocotools": lambda: evaluate(COCO, COCOeval),
        "faster-coco-eval": lambda: evaluate(FasterCOCO, COCOeval_faster),
    }
    seconds = take_turns(steps, repeats, clock=time.process_time)
    rows = [
        [name, step(), seconds[name], seconds["pycocotools"] / seconds[name]]
        for name, step in steps.items()
    ]
    title = f"Mask AP, {images} images x {detections} detections"
    return table(title, ["", "AP", "CPU s", "times faster"], rows)


def benchmark_anchors(cfg: CfgNode) -> str:
    """Share of the nuclei whose shape an anchor matches at IoU >= .5 when their centres agree.

    Sizes are those of the config's anchors at INPUT.SCALE_TEST, and detectron2's default.
    """
    boxes = np.array(
        [
            nucleus["bbox"][2:]
            for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
            for record in DatasetCatalog.get(name)
            for nucleus in record["annotations"]
        ]
    )
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
