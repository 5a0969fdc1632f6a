"""What judging instances costs: painting masks, matching, all measures, and AP, by each program."""

import contextlib
import functools
import io
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.measure import table, take_turns
from benchmarks.options import new_parser, positive
from benchmarks.synthetic import coco_eval_workload
from unet_sharp_det.evaluation.instances.measures import THRESHOLDS
from unet_sharp_det.evaluation.instances.overlap import InstanceOverlap, shared_pixels
from unet_sharp_det.evaluation.instances.results import InstanceResults
from unet_sharp_det.masks.instance_maps import InstanceMap


def main(argv) -> None:
    parser = new_parser(argv[0], __doc__, repeats=3)
    parser.add_argument("--images", type=positive, default=664)
    parser.add_argument("--detections", type=positive, default=115, help="per image")
    args = parser.parse_args(argv[1:])
    print(compare_programs(args.images, args.detections, args.repeats))


def compare_programs(images: int, detections: int, repeats: int) -> str:
    """CPU seconds of what ``unet-sharp-det evaluate`` does, and of other programs that do the same.

    Args:
        images, detections: size of the workload, detections per image, of which all count.
        repeats: counted runs; medians are reported.

    Returns:
        str: a table; in each group of rows the last column is relative to the group's first one.
            StarDist's matching gives TP, FP and FN at ten IoU thresholds, ours all measures, of
            which those are a part, and our histogram of shared pixels the IoUs of all pairs;
            without StarDist installed its row is left out.
    """
    truth, results = coco_eval_workload(images, detections, seed=0)
    shapes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    found, true = _by_image(results), _by_image(truth["annotations"])

    def paint_all(paint: Callable) -> dict[int, np.ndarray]:
        return {image_id: paint(found[image_id], shape) for image_id, shape in shapes.items()}

    pred_maps = paint_all(_paint)
    true_maps = {image_id: _paint(true[image_id], shape) for image_id, shape in shapes.items()}
    pairs = [_as_objects(true, pred_maps[image_id]) for image_id, true in true_maps.items()]
    groups = [
        {
            "masks to map: pycocotools, one by one": lambda: paint_all(paint_naively),
            "masks to map: ours": lambda: paint_all(_paint),
        },
        {
            **_stardist_step(true_maps, pred_maps),
            "histogram of both maps: ours": lambda: _count_shared(pairs),
            "matching and all measures: ours": lambda: _measure(true_maps, pred_maps),
        },
        {
            f"mask AP: {name}": functools.partial(mask_ap, truth, results, *classes)
            for name, classes in coco_programs().items()
        },
    ]
    steps = {name: step for group in groups for name, step in group.items()}
    seconds = take_turns(steps, repeats, clock=time.process_time)
    rows = [
        [name, seconds[name], seconds[next(iter(group))] / seconds[name]]
        for group in groups
        for name in group
    ]
    title = f"Judging {len(results)} detections of {images} images"
    return table(title, ["", "CPU s", "times faster"], rows)


def paint_naively(entries: Sequence[dict], shape: tuple[int, int]) -> np.ndarray:
    """Decode each mask of COCO results, and paint the highest score last.

    Returns:
        int32 (H, W): as ``InstanceMap`` numbers the objects, but for those that vanish.
    """
    labels = np.zeros(shape, np.int32)
    scores = np.array([entry["score"] for entry in entries])
    order = np.argsort(-scores, kind="stable")[::-1]
    for rank, index in enumerate(order):
        labels[mask_util.decode(entries[index]["segmentation"]) > 0] = len(order) - rank
    return labels


def coco_programs() -> dict[str, tuple[type, type]]:
    """Return the classes COCO and COCOeval of each program, the slower one first."""
    from faster_coco_eval import COCO as FasterCOCO
    from faster_coco_eval import COCOeval_faster

    return {"pycocotools": (COCO, COCOeval), "faster-coco-eval": (FasterCOCO, COCOeval_faster)}


def mask_ap(truth: dict, results: list[dict], coco_class, eval_class) -> float:
    """Return mask AP (0 to 1) at 500 detections per image, by the given COCO and COCOeval."""
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


def _by_image(entries: Sequence[dict]) -> dict[int, list[dict]]:
    by_image = defaultdict(list)
    for entry in entries:
        by_image[entry["image_id"]].append(entry)
    return by_image


def _paint(entries: Sequence[dict], shape: tuple[int, int]) -> np.ndarray:
    scores = [entry["score"] for entry in entries if "score" in entry]
    masks = [entry["segmentation"] for entry in entries]
    where = "the workload"
    return InstanceMap.from_segmentations(masks, shape, where, scores or None).labels


def _as_objects(true: np.ndarray, predicted: np.ndarray) -> tuple[InstanceMap, InstanceMap]:
    return InstanceMap.from_labels(true, "truth"), InstanceMap.from_labels(predicted, "predictions")


def _count_shared(pairs: Sequence[tuple[InstanceMap, InstanceMap]]) -> list[tuple]:
    return [shared_pixels(true, predicted) for true, predicted in pairs]


def _measure(true_maps: dict, pred_maps: dict) -> dict:
    overlaps = [
        InstanceOverlap.count(*_as_objects(true, pred_maps[image_id]), image_id=image_id)
        for image_id, true in true_maps.items()
    ]
    return InstanceResults(overlaps).metrics


def _stardist_step(true_maps: dict, pred_maps: dict) -> dict[str, Callable]:
    try:
        from stardist.matching import matching
    except ImportError:
        return {}

    def match():
        for image_id, true in true_maps.items():
            matching(true, pred_maps[image_id], thresh=THRESHOLDS)

    return {"matching at ten thresholds: StarDist": match}
