"""Images drawn with what each method got right and wrong in them."""

from collections.abc import Sequence

import cv2
import numpy as np

from ..errors import counted
from ..evaluation.instances.measures import MERGE_IOU, counts, merges, splits
from ..evaluation.instances.overlap import InstanceOverlap, without_void
from ..masks.drawing import draw_label_contours
from ..masks.instance_maps import InstanceMap
from .collect import Method, RunReport, find_picture
from .drawing import data_uri

TP, FP, FN, MERGE, SPLIT = "TP", "FP", "FN", "merge", "split"

# Of Okabe and Ito's palette, RGB.
OUTCOME_COLORS = {
    TP: (86, 180, 233),
    FP: (213, 94, 0),
    FN: (240, 228, 66),
    MERGE: (204, 121, 167),
    SPLIT: (0, 158, 115),
}

_MATCH_IOU = 0.5
_LONGEST_SIDE = 900
_GROUND = 96
_BRIGHTEST = 200  # Contours stand out on it.


def draw_images(
    methods: Sequence[Method], looks: Sequence[str | None], rows: Sequence[int]
) -> list[dict]:
    """Draw the images of some rows, and return what the page shows of each.

    Of several seeds of a method the first one is drawn.
    """
    runs, images = [method.seeds[0] for method in methods], []
    for row in rows:
        picture = find_picture(runs, row)
        objects = counted(len(runs[0].results.overlaps[row].true_areas), "true object")
        facts = f"{looks[row] or 'look unknown'}, {objects}"
        if picture is None:
            facts += "; the image's file is not there, so the ground is gray"
        images.append(
            {
                "file_name": runs[0].images[row].file_name,
                "facts": facts,
                "pictures": [_draw(run, row, picture) for run in runs],
            }
        )
    return images


def _draw(run: RunReport, row: int, image: np.ndarray | None) -> dict:
    overlap = run.results.overlaps[row]
    picture = outcome_picture(
        image,
        run.truth.instance_map(overlap.image_id),
        run.predictions.instance_map(overlap.image_id),
        overlap,
        void=run.truth.void(overlap.image_id),
    )
    numbers = dict(zip(("found", "false", "missed"), counts(overlap, 0.5), strict=True))
    numbers |= {"merged": merges(overlap)[0], "split": splits(overlap)[0]}
    return {
        "label": run.label,
        "score": float(run.results.image_values("DSB_score")[row]),
        "counts": ", ".join(f"{count} {what}" for what, count in numbers.items() if count),
        "uri": data_uri(picture),
        "size": picture.shape[:2],
    }


def outcomes_of(overlap: InstanceOverlap) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of each object of an image, by the matching at IoU >= .5.

    Returns:
        str (N,) of the true objects: TP, FN, or SPLIT, with IoU > .1 with several predicted ones;
        and (M,) of the predicted ones: TP, FP, or MERGE, with IoU > .1 with several true ones.
        SPLIT and MERGE go before the other classes.
    """
    pairs = overlap.match(_MATCH_IOU)
    parts = overlap.iou > MERGE_IOU

    def classify(count: int, index: np.ndarray, unmatched: str, several: str) -> np.ndarray:
        classes = np.full(count, unmatched, dtype="<U5")
        classes[index[pairs]] = TP
        classes[np.bincount(index[parts], minlength=count) > 1] = several
        return classes

    true = classify(len(overlap.true_areas), overlap.true_index, FN, SPLIT)
    return true, classify(len(overlap.pred_areas), overlap.pred_index, FP, MERGE)


def outcome_picture(
    image: np.ndarray | None,
    true: InstanceMap,
    predicted: InstanceMap,
    overlap: InstanceOverlap,
    *,
    void: np.ndarray | None = None,
) -> np.ndarray:
    """Draw the contours of predicted objects, and on them those of true ones: FN and SPLIT.

    The image is enlarged by the largest integer factor, or reduced, so that its longer side is at
    most 900 pixels. Its contrast is stretched, and its brightest parts dimmed.

    Args:
        image: uint8 (H, W, 3), RGB; None: a gray ground.
        true, predicted: the maps that were matched.
        overlap: of these maps.
        void: bool (H, W), pixels that did not count; they are painted gray.

    Returns:
        uint8 (h, w, 3), RGB.
    """
    true, predicted = without_void(true, predicted, void)
    if image is None:
        image = np.full((*true.labels.shape, 3), _GROUND, np.uint8)
    else:
        image = _stretch(image)
    if void is not None:
        image = np.where(void[..., None], np.uint8(_GROUND), image)
    scale = _LONGEST_SIDE / max(true.labels.shape)
    scale = int(scale) if scale >= 1 else scale
    size = [max(1, round(side * scale)) for side in true.labels.shape[::-1]]
    nearest = cv2.INTER_NEAREST_EXACT
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else nearest)
    true_classes, pred_classes = outcomes_of(overlap)
    missed = true_classes != TP
    layers = (predicted, pred_classes), (true.keep(missed), true_classes[missed])
    for found, classes in layers:
        labels = cv2.resize(found.labels, size, interpolation=nearest)
        colors = [OUTCOME_COLORS[name] for name in classes]
        canvas = draw_label_contours(canvas, labels, colors, thickness=2)
    return canvas


def _stretch(image: np.ndarray) -> np.ndarray:
    low, high = np.percentile(image, [0.5, 99.8])
    scaled = (image.astype(np.float32) - low) * (_BRIGHTEST / max(high - low, 1))
    return scaled.clip(0, _BRIGHTEST).astype(np.uint8)
