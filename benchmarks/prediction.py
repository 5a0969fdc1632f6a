"""Images per second and memory of prediction, against detectron2's DefaultPredictor."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor
from scipy import ndimage
from torch import nn

from benchmarks.measure import in_fresh_process, peak_memory, table, take_turns
from benchmarks.options import add_images, new_parser, positive
from unet_sharp_det.checkpoints.config import config_of
from unet_sharp_det.checkpoints.loading import SkipCheckpointer
from unet_sharp_det.cli import add_trust_argument
from unet_sharp_det.data.augmentation import build_test_resize
from unet_sharp_det.errors import DatasetError, look_up_option
from unet_sharp_det.evaluation.instances.overlap import InstanceOverlap
from unet_sharp_det.images.decoding import read_image
from unet_sharp_det.images.intensity import prepare
from unet_sharp_det.images.source import from_array
from unet_sharp_det.masks.instance_maps import InstanceMap
from unet_sharp_det.masks.instances import SparseInstances
from unet_sharp_det.prediction.predictor import PredictionOptions, Predictor
from unet_sharp_det.runtime import fall_back_to_cpu, has_bfloat16

DEFAULT = "detectron2's DefaultPredictor"
_SCORE = 0.5
_HEADERS = [
    *("variant", "images/s", "times faster", "ready after s", "peak MiB"),
    *("matched at IoU .9", "largest difference of scores"),
]

Find = Callable[[Sequence[np.ndarray]], list[InstanceMap]]


class Workload(NamedTuple):
    """What is predicted: by a config with its weights, images (H, W, 3) of one size, in batches."""

    cfg: CfgNode
    images: list[np.ndarray]
    batch: int
    trust_pickle: bool = False


def main(argv) -> None:
    parser = new_parser(argv[0], __doc__)
    add_images(parser, size=256, batch=4)
    add = parser.add_argument
    add("--weights", required=True, help="checkpoint of a trained model")
    add("--config-file", help="of its training (default: beside the checkpoint)")
    add("--images", default="datasets/dsb2018/images", help="folder (default: %(default)s)")
    add("--count", type=positive, default=8, help="images at most (default: %(default)s)")
    add("--variants", nargs="+", help="some of the table's rows (default: all)")
    add("--threads", type=positive, nargs="+", default=[torch.get_num_threads()])
    add_trust_argument(parser)
    add("opts", nargs="*", metavar="KEY VALUE", help="config options")
    args = parser.parse_args(argv[1:])
    images = read_images(args.images, args.size, args.count)
    cfg = config_of(args.weights, args.config_file, args.opts)
    cfg.MODEL.WEIGHTS = args.weights
    fall_back_to_cpu(cfg)
    options = (args.batch, args.repeats, args.trust_pickle, args.variants)
    for threads in args.threads:
        torch.set_num_threads(threads)
        print(compare_predictors(cfg, images, *options), flush=True)


def compare_predictors(
    cfg: CfgNode,
    images: Sequence[np.ndarray],
    batch: int,
    repeats: int,
    trust_pickle: bool = False,
    names: Sequence[str] | None = None,
) -> str:
    """From images in memory to label maps, by each variant of prediction.

    All see the same input of the network and keep objects of scores above .5. Speed is taken in
    one process, in turns; memory, and the time until the first image is done, in a process of its
    own for each.

    Args:
        cfg: of a trained model, with its ``MODEL.WEIGHTS``.
        images: uint8 (H, W, 3) in RGB, all of one size.
        batch: images that the network sees at once, where a variant has batches.
        repeats: counted runs; medians are reported.
        trust_pickle: of :class:`SkipCheckpointer`.
        names: of the variants. None: all that this machine can run.

    Returns:
        str: a Markdown table; peak memory is that of building the model and predicting one batch.
    """
    work = Workload(cfg, list(images), batch, trust_pickle)
    builders = available_variants()
    for name in names or ():
        look_up_option(name, builders, "--variants")
    builders = {n: b for n, b in builders.items() if names is None or n in names or n == DEFAULT}
    finders = {name: build(work) for name, build in builders.items()}
    found = {name: find(work.images) for name, find in finders.items()}
    seconds = take_turns({n: partial(find, work.images) for n, find in finders.items()}, repeats)
    del finders
    threads = torch.get_num_threads()
    own = {name: in_fresh_process(ready_and_peak, name, work, threads) for name in builders}
    rows = [
        [
            name,
            len(images) / seconds[name],
            seconds[DEFAULT] / seconds[name],
            *own[name],
            *agreement(found[DEFAULT], found[name]),
        ]
        for name in builders
    ]
    count = sum(map(len, found[DEFAULT]))
    height, width = images[0].shape[:2]
    title = (
        f"Prediction: {len(images)} images of {height} x {width}, {count} objects, batch {batch}"
    )
    note = "The model finds no objects: the time is not that of a trained model's use.\n"
    return table(title, _HEADERS, rows, floatfmt=_FORMATS) + note * (count == 0)


_FORMATS = ("", ".2f", ".2f", ".1f", ".0f", ".3f", ".1e")


def available_variants() -> dict[str, Callable[[Workload], Find]]:
    """The variants that can run here, by name."""
    variants = {
        DEFAULT: _default_predictor,
        "Predictor": lambda work: _predictor(work._replace(batch=1)),
        "Predictor, in batches": _predictor,
    }
    if has_bfloat16(torch.device("cuda" if torch.cuda.is_available() else "cpu")):
        variants["Predictor, bf16"] = lambda work: _predictor(work, precision="bf16")
    return variants


def read_images(folder, size: int, count: int) -> list[np.ndarray]:
    """Read the first ``count`` images of ``size`` x ``size`` pixels of a folder, in RGB.

    Raises:
        DatasetError: there is none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f"predict: there is no folder '{folder}'. Give another --images.")
    images, others = [], set()
    for path in sorted(folder.iterdir()):
        if len(images) == count:
            break
        if path.suffix.lower() not in (".png", ".tif", ".tiff", ".jpg"):
            continue
        image = read_image(str(path), "RGB")
        if image.shape[:2] == (size, size):
            images.append(image)
        else:
            others.add(f"{image.shape[0]} x {image.shape[1]}")
    if not images:
        sizes = ", ".join(sorted(others)) or "none"
        raise DatasetError(
            f"predict: {folder} has no image of {size} x {size} pixels, but of {sizes}. Give "
            "another --images or --size."
        )
    return images


def agreement(wanted: Sequence[InstanceMap], found: Sequence[InstanceMap]) -> tuple[float, float]:
    """How alike two predictions of the same images are.

    Returns:
        The share of objects of both that have a partner of IoU >= .9, and the largest difference
        of the scores of partners; 1 and 0 without any object.
    """
    pairs, objects, difference = 0, 0, 0.0
    for number, (a, b) in enumerate(zip(wanted, found, strict=True)):
        overlap = InstanceOverlap.count(a, b, image_id=number)
        matched = overlap.match(0.9)
        pairs += 2 * len(matched)
        objects += len(a) + len(b)
        scores = a.scores[overlap.true_index[matched]] - b.scores[overlap.pred_index[matched]]
        difference = max(difference, np.abs(scores).max(initial=0.0))
    return (pairs / objects if objects else 1.0), float(difference)


def ready_and_peak(name: str, work: Workload, threads: int) -> tuple[float, float]:
    """Seconds until the first image is done and peak MiB of a batch, model included."""
    torch.set_num_threads(threads)
    seconds = []

    def run():
        start = time.perf_counter()
        find = available_variants()[name](work)
        find(work.images[:1])
        seconds.append(time.perf_counter() - start)
        find(work.images[: work.batch])

    peak = peak_memory(run)
    return seconds[0], peak


def _default_predictor(work: Workload) -> Find:
    """DefaultPredictor on images as the model was trained on, and then a label map."""
    cfg = work.cfg.clone()
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = _SCORE
    weights, cfg.MODEL.WEIGHTS = cfg.MODEL.WEIGHTS, ""
    predict = DefaultPredictor(cfg)
    SkipCheckpointer(predict.model, trained=True, trust_pickle=work.trust_pickle).load(weights)
    predict.aug = build_test_resize(cfg.INPUT)

    def find(images):
        images = [_contrast_of(cfg, image)[:, :, ::-1] for image in images]
        return [_to_map(predict.model, predict(image)) for image in images]

    return find


def _contrast_of(cfg: CfgNode, image: np.ndarray) -> np.ndarray:
    """The image with the contrast that the model was trained on."""
    prepared = prepare(from_array(image), "RGB", cfg.INPUT.STRETCH_CONTRAST)
    return prepared.window(*(slice(0, side) for side in prepared.shape))


def _to_map(model: nn.Module, output: dict) -> InstanceMap:
    if "instances" in output:
        found = SparseInstances.from_instances(output["instances"])
        return InstanceMap.from_objects(found, "the benchmark")
    probabilities = output["sem_seg"].cpu()
    labels = model.sem_seg_head.labels
    channel = labels.foreground_channels[0]
    objects, count = ndimage.label(labels.decide(probabilities[None])[0, channel].numpy())
    scores = ndimage.mean(probabilities[channel].numpy(), objects, np.arange(1, count + 1))
    order = np.argsort(-np.asarray(scores), kind="stable")
    ranks = np.zeros(count + 1, np.int32)
    ranks[order + 1] = np.arange(1, count + 1)
    return InstanceMap(ranks[objects], np.asarray(scores)[order])


def _predictor(work: Workload, precision: str = "fp32") -> Find:
    options = PredictionOptions(
        score_threshold=_SCORE,
        max_covered=1.0,  # DefaultPredictor keeps all.
        batch_size=work.batch,
        tile_size=1 << 14,
        precision=precision,
    )
    predictor = Predictor.from_config(work.cfg, options, trust_pickle=work.trust_pickle)

    def find(images):
        found = predictor.predict_many(images)
        return [InstanceMap(objects.label_map(), objects.scores) for objects in found]

    return find
