"""The image with the outlines of its objects, for a human to look at."""

import math
from pathlib import Path

import cv2
import numpy as np

from ..masks.drawing import distinct_colors, draw_label_contours
from ..masks.instances import SparseInstances
from .write import OutputContext, windows

LONGEST_SIDE = 4096
_TILE = 1024


def write_overlay(instances: SparseInstances, context: OutputContext, path: Path) -> None:
    """Write the image with a contour per object, in distinct colours, as PNG.

    Args:
        instances: whose contours are drawn on their own pixels.
        context: the image is shown with stretched contrast; see :func:`draw_overlay`.
        path: of the file.
    """
    picture = draw_overlay(instances, _open_display(context))
    ok, png = cv2.imencode(".png", picture[:, :, ::-1])
    if not ok:
        raise RuntimeError(f"OpenCV cannot encode a picture of {picture.shape}.")
    path.write_bytes(png.tobytes())


def draw_overlay(
    instances: SparseInstances, display, longest_side: int = LONGEST_SIDE
) -> np.ndarray:
    """Draw contours on an image, which is reduced by an integer if it is longer than allowed.

    A pixel of the reduced image is the mean of a block; it belongs to the block's last object, so
    that objects smaller than a block are seen too.

    Args:
        instances: of the image.
        display: has ``window(rows, columns)``, which returns uint8 (h, w, 3) in RGB.
        longest_side: of the picture in pixels.

    Returns:
        np.ndarray: uint8 (H, W, 3).
    """
    height, width = instances.shape
    factor = math.ceil(max(height, width) / longest_side)
    canvas = np.empty((math.ceil(height / factor), math.ceil(width / factor), 3), np.uint8)
    colors = np.array(distinct_colors(len(instances)), np.uint8).reshape(-1, 3)
    side = max(1, _TILE // factor) * factor
    for rows, columns in windows(instances.shape, side, side):
        image = _reduce_image(display.window(rows, columns), factor)
        # One more reduced pixel on each side, where a contour may depend on it.
        around, inner = zip(
            _with_margin(rows, factor, height), _with_margin(columns, factor, width), strict=True
        )
        labels = _reduce_labels(instances.paint(*around), factor)
        framed = np.zeros((*labels.shape, 3), np.uint8)
        y, x = (slice(first, first + size) for first, size in zip(inner, image.shape, strict=False))
        framed[y, x] = image
        drawn = draw_label_contours(framed, labels, colors)[y, x]
        top, left = rows.start // factor, columns.start // factor
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = drawn
    return canvas


def _open_display(context: OutputContext):
    from ..images.intensity import prepare

    return prepare(context.source, "RGB", stretch_contrast=True)


def _with_margin(part: slice, margin: int, size: int) -> tuple[slice, int]:
    """Return a range with a margin where the image goes on, and the reduced margin before it."""
    start = max(0, part.start - margin)
    return slice(start, min(size, part.stop + margin)), (part.start - start) // margin


def _reduce_image(image: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return image
    padded = np.pad(image, (*_padding(image.shape, factor), (0, 0)), mode="edge")
    size = (padded.shape[1] // factor, padded.shape[0] // factor)
    return cv2.resize(padded, size, interpolation=cv2.INTER_AREA)


def _reduce_labels(labels: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return labels
    padded = np.pad(labels, _padding(labels.shape, factor))
    blocks = padded.reshape(padded.shape[0] // factor, factor, -1, factor)
    return blocks.max(axis=(1, 3))


def _padding(shape: tuple[int, ...], factor: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """What completes the last blocks of the two sides."""
    return (0, -shape[0] % factor), (0, -shape[1] % factor)
