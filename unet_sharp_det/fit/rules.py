"""The rules by which the settings of a training follow from its data and its machine.

After nnU-Net (Isensee et al., Nature Methods 18, 2021): facts of the data, its *fingerprint*,
decide by rules what a person would else try out. Each rule gives a value, and the reason that
stands beside it in the config.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from detectron2.config import CfgNode

from ..checkpoints.class_names import class_count
from ..errors import DatasetError

#: In pixels at the network, after the scale: what a median object becomes, and what the largest
#: anchors of the configs reach. The models in the package were trained so.
DIAMETER = 40
LARGEST_DIAMETER = 192
LARGEST_SIDE = 2800
#: How often an image is seen, and how many iterations that may be: (fewest, most).
EPOCHS = 100
FINE_TUNING, FROM_SCRATCH = (300, 3000), (1500, 12000)
LEARNING_RATE = 0.0002
#: With fewer iterations no evaluation during the training pays.
LONG = 2000
GPU_GIB_PER_IMAGE = 2.0


class Setting(NamedTuple):
    """A key of the config, its value, and why."""

    key: str
    value: object
    reason: str


@dataclass(frozen=True)
class Machine:
    """What a training runs on; ``gib``: memory of the GPU, or of the computer without one."""

    has_gpu: bool
    gib: float

    @classmethod
    def this(cls) -> "Machine":
        """Return what this computer has."""
        if torch.cuda.is_available():
            return cls(True, torch.cuda.get_device_properties(0).total_memory / 2**30)
        return cls(False, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def settings_for(
    fingerprint: Mapping, classes: Sequence[str], base: CfgNode, machine: Machine, *, tuned: bool
) -> list[Setting]:
    """Return the settings that differ from those of a model's config.

    Args:
        fingerprint: what :meth:`.Fingerprint.summary` gives.
        classes: names, in the order of their ids.
        base: the config of the model that the training starts from.
        tuned: whether it starts from that model's weights.
    """
    return [
        *_scale(fingerprint, base),
        *_objects(fingerprint, base),
        *_classes(classes, base),
        *_channels(fingerprint),
        *_schedule(fingerprint, base, machine, tuned),
        *_learning_rate(classes, base, tuned),
        *_memory(fingerprint, base, machine),
        *_looks(fingerprint),
    ]


def is_detector(base: CfgNode) -> bool:
    """Whether a model has boxes, and so classes."""
    return base.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"


def is_semantic(base: CfgNode) -> bool:
    """Whether a model labels pixels, at the scale that its config has."""
    return base.MODEL.META_ARCHITECTURE == "SemanticSegmentor"


def choose_scale(fingerprint: Mapping, base: CfgNode) -> float:
    """Return the factor by which images are resized."""
    if is_semantic(base):
        return base.INPUT.SCALE_TEST or 1.0
    diameters = fingerprint["diameter_px"].values()
    median = _mean([each["q50"] for each in diameters])
    large = max(each["q95"] for each in diameters)
    scale = min(DIAMETER / max(median, 1), LARGEST_DIAMETER / max(large, 1))
    scale = min(max(scale, 0.05), 8)
    return float(f"{scale:.2g}")


def _scale(fingerprint: Mapping, base: CfgNode) -> Iterator[Setting]:
    size = fingerprint["pixel_size_um"] or 0.0
    reason = "micrometres, the median of the images" if size else "the images do not say it"
    yield Setting("INPUT.PIXEL_SIZE", size, reason)
    if is_semantic(base):
        return
    scale = choose_scale(fingerprint, base)
    medians = [each["q50"] for each in fingerprint["diameter_px"].values()]
    reason = f"objects of {_mean(medians):.0f} pixels become {scale * _mean(medians):.0f}"
    yield Setting("INPUT.SCALE_TEST", scale, reason)
    factors = [float(f"{scale * factor:.2g}") for factor in (0.7, 1.0, 1.4)]
    yield Setting("INPUT.SCALE_TRAIN", factors, "0.7, 1 and 1.4 times as large as in tests")
    yield Setting("INPUT.MAX_SIZE_TEST", LARGEST_SIDE, "larger images are predicted in tiles")


def _objects(fingerprint: Mapping, base: CfgNode) -> Iterator[Setting]:
    if is_semantic(base):
        return  # The least area is chosen after the training.
    largest = fingerprint["objects_per_image"]["largest"]
    detections = max(100, 100 * math.ceil(1.5 * largest / 100))
    reason = f"1.5 times the {largest} objects of the fullest image"
    yield Setting("TEST.DETECTIONS_PER_IMAGE", detections, reason)
    if is_detector(base):
        proposals = max(base.MODEL.RPN.POST_NMS_TOPK_TEST, 2 * detections)
        reason = "twice as many, or the model's own"
        yield Setting("MODEL.RPN.POST_NMS_TOPK_TEST", proposals, reason)
        yield Setting("MODEL.RPN.PRE_NMS_TOPK_TEST", proposals, "as many on each level")
    small = min(each["q01"] for each in fingerprint["diameter_px"].values())
    area = int(math.pi / 4 * small**2)
    yield Setting("TEST.INSTANCES.MIN_AREA", area, "pixels: 1 % of the objects are smaller")


def _classes(classes: Sequence[str], base: CfgNode) -> Iterator[Setting]:
    yield Setting("MODEL.CLASS_NAMES", list(classes), "those of the data")
    count = len(classes)
    fits = count == class_count(base)
    if not is_semantic(base):
        part = "ROI_HEADS" if is_detector(base) else "WATERSHED"
        yield Setting(f"MODEL.{part}.NUM_CLASSES", count, "their number")
    elif not fits:
        activation, more = ("softmax", 1) if count > 1 else ("sigmoid", 0)
        yield Setting("MODEL.SEM_SEG_HEAD.ACTIVATION", activation, "a pixel has one class at most")
        reason = "their number, and the background" if more else "their number"
        yield Setting("MODEL.SEM_SEG_HEAD.NUM_CLASSES", count + more, reason)
    if not fits:
        yield Setting("MODEL.WEIGHTS_PARTIAL", True, "the model's last layers are of other classes")


def _channels(fingerprint: Mapping) -> Iterator[Setting]:
    counts = fingerprint["channels"]
    if set(counts) <= {1, 3}:
        return  # Gray becomes three equal channels.
    if len(counts) > 1:
        raise DatasetError(
            f"The images have {' or '.join(map(str, counts))} channels. Import those of one number."
        )
    (count,) = counts
    yield Setting("INPUT.FORMAT", "CHANNELS", f"the images have {count} channels, all are seen")
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        yield Setting(f"MODEL.{key}", [127.5] * count, "the middle of 8 bits, for each channel")
    yield Setting("MODEL.WEIGHTS_PARTIAL", True, "the first convolution is adapted to them")


def _schedule(
    fingerprint: Mapping, base: CfgNode, machine: Machine, tuned: bool
) -> Iterator[Setting]:
    fewest, most = FINE_TUNING if tuned else FROM_SCRATCH
    wanted = math.ceil(EPOCHS * fingerprint["images"] / _batch(machine))
    iterations = min(max(wanted, fewest), most)
    reason = f"{EPOCHS} times each image, at least {fewest} and at most {most} iterations"
    yield Setting("SOLVER.MAX_ITER", iterations, reason)
    yield Setting("SOLVER.CHECKPOINT_PERIOD", max(50, iterations // 10), "what a stop may cost")
    yield Setting("SOLVER.WARMUP_ITERS", iterations // 20, "a twentieth of the iterations")
    decay = float(f"{1 - 10 / iterations:.3f}")
    yield Setting("SOLVER.EMA_DECAY", decay, "a mean over the last tenth of the iterations")
    is_long = iterations >= LONG
    reason = "ten times" if is_long else "at the end only: the training is short"
    yield Setting("TEST.EVAL_PERIOD", iterations // 10 if is_long else 0, reason)
    yield Setting("TEST.EARLY_STOPPING.PATIENCE", 4 if is_long else 0, "evaluations without gain")
    metric = "sem_seg/Dice_image_mean" if is_semantic(base) else "instances/DSB_score"
    yield Setting("TEST.BEST_METRIC", metric, "the threshold is chosen by it, too")


def _learning_rate(classes: Sequence[str], base: CfgNode, tuned: bool) -> Iterator[Setting]:
    is_watershed = base.MODEL.META_ARCHITECTURE == "WatershedSegmentor"
    if tuned and is_watershed and len(classes) != class_count(base):
        reason = "of the start's own training, for the classes are new"
        yield Setting("SOLVER.BASE_LR", base.SOLVER.BASE_LR, reason)
    elif tuned:
        yield Setting("SOLVER.BASE_LR", LEARNING_RATE, "less than of a training from scratch")


def _memory(fingerprint: Mapping, base: CfgNode, machine: Machine) -> Iterator[Setting]:
    kind = "GPU" if machine.has_gpu else "computer"
    reason = f"{machine.gib:.0f} GiB of memory of the {kind}"
    yield Setting("SOLVER.IMS_PER_BATCH", _batch(machine), reason)
    longest = choose_scale(fingerprint, base) * fingerprint["image_sides_px"]["median"]
    side = min(512 if machine.has_gpu else 224, 32 * math.ceil(longest / 32))
    reason = "at most 512 on a GPU, 224 without one, and no more than an image has"
    yield Setting("INPUT.CROP.SIZE", [side, side], reason)
    reason = "half precision on a GPU" if machine.has_gpu else "bfloat16 is slow on most CPUs"
    yield Setting("SOLVER.AMP.ENABLED", machine.has_gpu, reason)
    yield Setting("DATALOADER.NUM_WORKERS", 4 if machine.has_gpu else 0, "beside the training")


def _looks(fingerprint: Mapping) -> Iterator[Setting]:
    looks = fingerprint["looks"]
    reason = f"looks of the images: {', '.join(f'{n} {look}' for look, n in looks.items())}"
    yield Setting("DATALOADER.BALANCE_LOOKS", 0.5 if len(looks) > 1 else 0.0, reason)


def _batch(machine: Machine) -> int:
    return min(16, max(2, int(machine.gib / GPU_GIB_PER_IMAGE))) if machine.has_gpu else 4


def _mean(values: Sequence[float]) -> float:
    """The geometric mean, for sizes are ratios."""
    return math.exp(sum(math.log(max(value, 1)) for value in values) / max(1, len(values)))
