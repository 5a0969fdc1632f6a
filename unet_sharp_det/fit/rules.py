"""The rules by which the settings of a training follow from its data and its machine.

After nnU-Net (Isensee et al., Nature Methods 18, 2021): facts of the data, its *fingerprint*,
decide by rules what a person would else try out. Each rule gives a value, and the reason that
stands beside it in the config. What a rule does not set is as in the config of the start.
"""

import math
from collections.abc import Iterator

from ..checkpoints.class_names import class_part
from ..errors import DatasetError
from .facts import Facts, Setting

#: In pixels at the network, after the scale: what a median object becomes, what the largest anchors
#: of the configs reach, the longest side of an image, the sides of a crop.
DIAMETER = 40
LARGEST_DIAMETER = 192
LARGEST_SIDE = 2800
CROP_ON_GPU, CROP_ON_CPU = 512, 224
#: How often an image is seen, and how many iterations that may be: (fewest, most).
EPOCHS = 100
FINE_TUNING, FROM_SCRATCH = (300, 3000), (1500, 12000)
LEARNING_RATE = 0.0002
#: With fewer iterations no evaluation during the training pays.
LONG = 2000
GPU_GIB_PER_IMAGE = 2.0


def settings_for(facts: Facts) -> list[Setting]:
    """Return the settings that differ from those of the start."""
    rules = (_scale, _limits, _classes, _channels, _schedule, _learning_rate, _memory, _looks)
    return [setting for rule in rules for setting in rule(facts)]


def _scale(facts: Facts) -> Iterator[Setting]:
    size = facts.data["pixel_size_um"] or 0.0
    reason = "micrometres, the median of the images" if size else "the images do not say it"
    yield Setting("INPUT.PIXEL_SIZE", size, reason)
    if facts.kind == "SemanticSegmentor":
        return
    scale, median = _factor(facts), facts.median_diameter
    yield Setting("INPUT.DIAMETER", round(median, 1), "pixels, the median of the objects")
    reason = f"objects of {median:.0f} pixels become {scale * median:.0f}"
    yield Setting("INPUT.SCALE_TEST", scale, reason)
    factors = [float(f"{scale * factor:.2g}") for factor in (0.7, 1.0, 1.4)]
    yield Setting("INPUT.SCALE_TRAIN", factors, "0.7, 1 and 1.4 times as large as in tests")
    yield Setting("INPUT.MAX_SIZE_TEST", LARGEST_SIDE, "larger images are predicted in tiles")


def _factor(facts: Facts) -> float:
    """The factor by which images are resized; that of a semantic model stays its own."""
    if facts.kind == "SemanticSegmentor":
        return facts.base.INPUT.SCALE_TEST or 1.0
    scale = min(DIAMETER / facts.median_diameter, LARGEST_DIAMETER / facts.large_diameter)
    return float(f"{min(max(scale, 0.05), 8):.2g}")


def _limits(facts: Facts) -> Iterator[Setting]:
    if facts.kind == "SemanticSegmentor":
        return  # The least area is chosen after the training.
    largest = facts.data["objects_per_image"]["largest"]
    detections = max(100, 100 * math.ceil(1.5 * largest / 100))
    reason = f"1.5 times the {largest} objects of the fullest image, 100 at least"
    yield Setting("TEST.DETECTIONS_PER_IMAGE", detections, reason)
    if facts.kind == "GeneralizedRCNN":
        proposals = max(facts.base.MODEL.RPN.POST_NMS_TOPK_TEST, 2 * detections)
        yield Setting("MODEL.RPN.POST_NMS_TOPK_TEST", proposals, "twice as many, or the start's")
        yield Setting("MODEL.RPN.PRE_NMS_TOPK_TEST", proposals, "as many on each level")
    area = int(math.pi / 4 * facts.small_diameter**2)
    yield Setting("TEST.INSTANCES.MIN_AREA", area, "pixels: 1 % of the objects are smaller")


def _classes(facts: Facts) -> Iterator[Setting]:
    yield Setting("MODEL.CLASS_NAMES", list(facts.classes), "those of the data")
    count = len(facts.classes)
    if facts.kind != "SemanticSegmentor":
        yield Setting(f"MODEL.{class_part(facts.base)}.NUM_CLASSES", count, "their number")
    elif facts.has_new_classes:
        activation, more = ("softmax", 1) if count > 1 else ("sigmoid", 0)
        yield Setting("MODEL.SEM_SEG_HEAD.ACTIVATION", activation, "a pixel has one class at most")
        yield Setting("MODEL.SEM_SEG_HEAD.NUM_CLASSES", count + more, "softmax has a background")
    if facts.has_new_classes:
        yield Setting("MODEL.WEIGHTS_PARTIAL", True, "the model's last layers are of other classes")


def _channels(facts: Facts) -> Iterator[Setting]:
    counts = facts.data["channels"]
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
    if len(facts.base.MODEL.PIXEL_MEAN) != count:
        yield Setting("MODEL.WEIGHTS_PARTIAL", True, "the first convolution is adapted to them")


def _schedule(facts: Facts) -> Iterator[Setting]:
    fewest, most = FINE_TUNING if facts.tuned else FROM_SCRATCH
    wanted = math.ceil(EPOCHS * facts.data["images"] / _batch(facts))
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
    measure = {"SemanticSegmentor": "sem_seg/Dice_image_mean"}.get(
        facts.kind, "instances/DSB_score"
    )
    yield Setting("TEST.BEST_METRIC", measure, "the threshold is chosen by it, too")


def _learning_rate(facts: Facts) -> Iterator[Setting]:
    if facts.tuned and facts.kind == "WatershedSegmentor" and facts.has_new_classes:
        yield Setting("SOLVER.BASE_LR", facts.base.SOLVER.BASE_LR, "the start's: new classes learn")
    elif facts.tuned:
        yield Setting("SOLVER.BASE_LR", LEARNING_RATE, "less than of a training from scratch")


def _memory(facts: Facts) -> Iterator[Setting]:
    has_gpu = facts.machine.has_gpu
    reason = f"{facts.machine.gib:.0f} GiB of memory of the {'GPU' if has_gpu else 'computer'}"
    yield Setting("SOLVER.IMS_PER_BATCH", _batch(facts), reason)
    longest = _factor(facts) * facts.data["image_sides_px"]["median"]
    side = min(CROP_ON_GPU if has_gpu else CROP_ON_CPU, 32 * math.ceil(longest / 32))
    reason = f"{CROP_ON_GPU} on a GPU, {CROP_ON_CPU} without one, and no more than an image has"
    yield Setting("INPUT.CROP.SIZE", [side, side], reason)
    reason = "half precision on a GPU" if has_gpu else "bfloat16 is slow on most CPUs"
    yield Setting("SOLVER.AMP.ENABLED", has_gpu, reason)
    yield Setting("DATALOADER.NUM_WORKERS", 4 if has_gpu else 0, "beside the training")


def _batch(facts: Facts) -> int:
    fitting = int(facts.machine.gib / GPU_GIB_PER_IMAGE)
    return min(16, max(2, fitting)) if facts.machine.has_gpu else 4


def _looks(facts: Facts) -> Iterator[Setting]:
    looks = facts.data["looks"]
    reason = f"looks of the images: {', '.join(f'{n} {look}' for look, n in looks.items())}"
    yield Setting("DATALOADER.BALANCE_LOOKS", 0.5 if len(looks) > 1 else 0.0, reason)
