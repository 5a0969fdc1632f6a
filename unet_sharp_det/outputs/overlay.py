"""The image with the outlines of its objects, for a human to look at."""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from skimage.measure import block_reduce

from ..masks.drawing import BACKGROUND, distinct_colors, downscale, draw_label_contours
from ..masks.instances import SparseInstances
from .write import OutputContext, windows

_LONGEST_SIDE = 4096
_TILE = 1024
_LINE = 20


def write_overlay(instances: SparseInstances, context: OutputContext, path: Path) -> None:
    """Write the image, with stretched contrast and a contour per object, as PNG; of several
    classes contours have the colours of the classes, which stand below the image."""
    from ..images.intensity import prepare

    display = prepare(context.source, "RGB", stretch_contrast=True)
    colors = object_colors(instances, context.class_names)
    picture = add_legend(draw_overlay(instances, display, colors), context.class_names)
    path.write_bytes(cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes())


def draw_overlay(instances: SparseInstances, display, colors: np.ndarray) -> np.ndarray:
    """Draw contours on an image, reduced by an integer so that no side has over 4,096 pixels.

    A pixel of the reduced image is the mean of a block; it belongs to the block's last object, so
    that objects smaller than a block are seen too.

    Args:
        instances: of the image.
        display: has ``window(rows, columns)``, which returns uint8 (h, w, 3) in RGB.
        colors: of :func:`object_colors`.

    Returns:
        uint8 (H, W, 3).
    """
    height, width = instances.shape
    factor = math.ceil(max(height, width) / _LONGEST_SIDE)
    canvas = np.empty((math.ceil(height / factor), math.ceil(width / factor), 3), np.uint8)
    side = max(1, _TILE // factor) * factor
    for rows, columns in windows(instances.shape, side, side):
        image = downscale(display.window(rows, columns), factor)
        # One more reduced pixel on each side, where a contour may depend on it.
        around, inner = zip(
            _with_margin(rows, factor, height), _with_margin(columns, factor, width), strict=True
        )
        labels = block_reduce(instances.paint(*around), factor, np.max)
        framed = np.zeros((*labels.shape, 3), np.uint8)
        y, x = (slice(first, first + size) for first, size in zip(inner, image.shape, strict=False))
        framed[y, x] = image
        drawn = draw_label_contours(framed, labels, colors)[y, x]
        top, left = rows.start // factor, columns.start // factor
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = drawn
    return canvas


def object_colors(instances: SparseInstances, class_names: Sequence[str]) -> np.ndarray:
    """Return uint8 (N, 3), RGB of each object; of several classes that of its class."""
    if len(class_names) == 1:
        return np.array(distinct_colors(len(instances)), np.uint8).reshape(-1, 3)
    return np.array(distinct_colors(len(class_names)), np.uint8)[instances.classes]


def add_legend(picture: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Put a line per class, in its colour, below a picture, uint8 (H, W, 3); none of one class."""
    if len(class_names) == 1:
        return picture
    strip = np.full((_LINE * len(class_names) + 8, picture.shape[1], 3), BACKGROUND, np.uint8)
    colors = distinct_colors(len(class_names))
    for number, (name, color) in enumerate(zip(class_names, colors, strict=True), 1):
        text = name.encode("ascii", "replace").decode()
        place = (6, _LINE * number)
        cv2.putText(strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, 1, cv2.LINE_AA)
    return np.concatenate([picture, strip])


def _with_margin(part: slice, margin: int, size: int) -> tuple[slice, int]:
    """Return a range with a margin where the image goes on, and the reduced margin before it."""
    start = max(0, part.start - margin)
    return slice(start, min(size, part.stop + margin)), (part.start - start) // margin
