"""Drawing instances on images, which are uint8 (H, W, 3) in RGB."""

import colorsys
import math
from collections.abc import Sequence

import cv2
import numpy as np

#: Of a picture beside another one.
LONGEST_SIDE = 1024
#: Between the pictures of a montage.
BACKGROUND = (24, 24, 24)
_GAP = 4

_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def upscale_factor(height: int, width: int, short_side: int = 512) -> int:
    """Return the least integer that scales the shorter side to ``short_side`` pixels or more."""
    return max(1, math.ceil(short_side / min(height, width)))


def upscale(image: np.ndarray, factor: int) -> np.ndarray:
    """Repeat every pixel ``factor`` times in both directions: (H, W, ...) to (sH, sW, ...)."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def downscale(image: np.ndarray, factor: int) -> np.ndarray:
    """Average blocks of ``factor`` pixels in both directions: (H, W, 3) to (H / s, W / s, 3).

    The last blocks may lack pixels: those at the edge stand for them.
    """
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % factor), (0, -width % factor), (0, 0)), mode="edge")
    size = (padded.shape[1] // factor, padded.shape[0] // factor)
    return cv2.resize(padded, size, interpolation=cv2.INTER_AREA)


def distinct_colors(count: int) -> list[tuple[int, int, int]]:
    """Return ``count`` bright RGB colours whose neighbours in the list differ much.

    Hues are multiples of the golden ratio, so that any number of them spreads evenly over the
    circle; every third is paler. The first colours do not depend on ``count``.
    """
    saturations = (0.9, 0.7, 0.5)
    colors = [
        colorsys.hsv_to_rgb(i * _GOLDEN_RATIO % 1.0, saturations[i % 3], 1.0) for i in range(count)
    ]
    return [tuple(round(255 * channel) for channel in color) for color in colors]


def draw_label_contours(
    image: np.ndarray, labels: np.ndarray, colors, *, thickness: int = 1
) -> np.ndarray:
    """Draw the contours of the objects of a label map, inside of the objects, on a copy.

    Args:
        image: (H, W, 3).
        labels: integers (H, W) below 2^24; 0 is the background, k the object k of 1..N.
        colors: N RGB tuples.
        thickness: of the lines in pixels.
    """
    values = labels.astype(np.float32)  # OpenCV has no morphology of 32-bit integers.
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * thickness + 1,) * 2)
    edges = (cv2.dilate(values, kernel) != cv2.erode(values, kernel)) & (labels > 0)
    canvas = image.copy()
    if edges.any():
        canvas[edges] = np.asarray(colors, np.uint8)[labels[edges] - 1]
    return canvas


def draw_planes(array: np.ndarray, labels: np.ndarray, spacing) -> np.ndarray:
    """Draw an axial, a coronal and a sagittal plane of a volume with the contours of its labels.

    Of each direction the plane with most labelled voxels is drawn, or the middle one. Planes lie as
    radiologists look at them: from the feet, from the front, and from the left.

    Args:
        array: (D, H, W), z, y, x to the patient's head, back and left.
        labels: integers (D, H, W), 0 is background.
        spacing: of the voxels, (z, y, x) in mm.

    Returns:
        uint8 (H', W', 3) in RGB, square pixels.
    """
    gray = _to_gray(array)
    colors = distinct_colors(int(labels.max(initial=0)))
    scale = 512 / max(np.multiply(array.shape, spacing))
    panels = []
    for axis in range(3):
        others = tuple(each for each in range(3) if each != axis)
        index = _fullest_plane(labels, axis)
        rows, columns = (max(1, round(array.shape[i] * spacing[i] * scale)) for i in others)
        plane, shown = (
            each.take(index, axis)[:: 1 if axis == 0 else -1] for each in (gray, labels)
        )
        plane = cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_LINEAR)
        shown = cv2.resize(
            shown.astype(np.float32), (columns, rows), interpolation=cv2.INTER_NEAREST
        )
        picture = np.repeat(plane[:, :, None], 3, axis=2)
        picture = draw_label_contours(picture, shown.astype(np.int32), colors)
        panels.append(np.pad(picture, ((0, 512 - rows), (0, 0), (0, 0))))
    return np.concatenate(panels, axis=1)


def draw_slice(array: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Draw a slice of a volume (D, H, W) by :func:`draw_side_by_side`, enlarged if it is small:
    that with most labels of the truth, or of the prediction if there is none, or the middle one."""
    index = _fullest_plane(truth if truth.any() else predicted, axis=0)
    factor = upscale_factor(*array.shape[1:], short_side=256)
    gray, *maps = (upscale(each[index], factor) for each in (_to_gray(array), truth, predicted))
    return draw_side_by_side(np.repeat(gray[:, :, None], 3, axis=2), maps)


def draw_side_by_side(image: np.ndarray, maps: Sequence[np.ndarray]) -> np.ndarray:
    """Draw the contours of each label map (H, W) on a copy of an image, uint8 (H, W, 3).

    Returns:
        uint8 (h, w, 3), the copies from left to right, each reduced to ``LONGEST_SIDE`` pixels.
    """
    drawn = [draw_label_contours(image, each, distinct_colors(each.max())) for each in maps]
    factor = math.ceil(max(image.shape[:2]) / LONGEST_SIDE)
    return np.hstack([downscale(each, factor) for each in drawn])


def montage(
    pictures: Sequence[np.ndarray], columns: int, *, cell_width: int | None = None
) -> np.ndarray:
    """Arrange pictures, uint8 (H, W, 3), in cells of one size, each at the top left of its cell,
    scaled to a width if given."""
    if cell_width is not None:
        sides = [max(1, round(len(each) * cell_width / each.shape[1])) for each in pictures]
        pictures = [
            cv2.resize(each, (cell_width, side), interpolation=cv2.INTER_AREA)
            for each, side in zip(pictures, sides, strict=True)
        ]
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    height, width = np.max([picture.shape[:2] for picture in pictures], axis=0) + _GAP
    cells = np.full((rows * columns, height, width, 3), BACKGROUND, np.uint8)
    for cell, picture in zip(cells, pictures, strict=False):
        cell[: picture.shape[0], : picture.shape[1]] = picture
    grid = cells.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, 3)[:-_GAP, :-_GAP]


def _to_gray(array: np.ndarray) -> np.ndarray:
    low, high = np.percentile(array, (1, 99))
    return np.clip((array - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)


def _fullest_plane(labels: np.ndarray, axis: int) -> int:
    """The index of the plane with most labelled voxels along an axis; without any the middle."""
    counts = (labels > 0).sum(axis=tuple({0, 1, 2} - {axis}))
    return int(counts.argmax()) if counts.any() else len(counts) // 2
