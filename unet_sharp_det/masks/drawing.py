"""Drawing instances on images: pure functions from arrays to arrays.

An image is a uint8 array (H, W, 3) in RGB; masks are a bool array (N, H, W).
"""

import colorsys
import math

import cv2
import numpy as np

from ..errors import UserError

CAPTION_HEIGHT = 28

_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
_BACKGROUND = (24, 24, 24)
_TEXT_COLOR = (240, 240, 240)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def upscale_factor(height: int, width: int, short_side: int = 512) -> int:
    """Return the least integer that scales the shorter side to ``short_side`` pixels or more."""
    if min(height, width) < 1:
        raise UserError(f"An image of {height} x {width} pixels cannot be drawn.")
    return max(1, math.ceil(short_side / min(height, width)))


def upscale(image: np.ndarray, factor: int) -> np.ndarray:
    """Repeat every pixel ``factor`` times in both directions: (H, W, ...) to (sH, sW, ...)."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


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


def draw_contours(
    image: np.ndarray,
    masks: np.ndarray,
    colors=None,
    *,
    scale: int = 1,
    thickness: int = 1,
) -> np.ndarray:
    """Draw the contours of masks, those of holes too, on an image enlarged by ``scale``.

    A contour runs along the outermost pixels inside of its mask after enlarging, so contours of
    touching objects lie side by side. Where masks overlap, the last one is on top.

    Args:
        image: (H, W, 3), left as it is.
        masks: (N, H, W), or any empty array for no mask.
        colors: N RGB tuples; None: :func:`distinct_colors`.
        scale: integer factor, from :func:`upscale_factor` for instance.
        thickness: of the lines, in pixels of the enlarged image; more than 1 reaches outwards.

    Returns:
        np.ndarray: (scale * H, scale * W, 3).

    Raises:
        UserError: if the masks are not of the image's size, or the number of colours differs.
    """
    canvas = np.ascontiguousarray(upscale(image, scale))
    if len(masks) == 0:
        return canvas
    if masks.shape[1:] != image.shape[:2]:
        raise UserError(f"Masks of {masks.shape[1:]} pixels do not fit an image of {image.shape}.")
    colors = distinct_colors(len(masks)) if colors is None else colors
    if len(colors) != len(masks):
        raise UserError(f"{len(masks)} masks cannot be drawn in {len(colors)} colours.")
    for mask, color in zip(masks, colors, strict=True):
        for contour in _find_contours(mask, scale):
            cv2.polylines(canvas, [contour], True, color, thickness)
    return canvas


def draw_label_contours(
    image: np.ndarray, labels: np.ndarray, colors, *, thickness: int = 1
) -> np.ndarray:
    """Draw the contours of the objects of a label map, inside of the objects.

    Args:
        image: (H, W, 3), left as it is.
        labels: integers (H, W) below 2^24; 0 is the background, k the object k of 1..N.
        colors: N RGB tuples.
        thickness: of the lines in pixels.

    Returns:
        np.ndarray: (H, W, 3).

    Raises:
        UserError: if the labels are not of the image's size, or there are too few colours.
    """
    if labels.shape != image.shape[:2]:
        raise UserError(f"Labels of {labels.shape} pixels do not fit an image of {image.shape}.")
    if labels.max(initial=0) > len(colors):
        raise UserError(f"{labels.max()} objects cannot be drawn in {len(colors)} colours.")
    values = labels.astype(np.float32)  # OpenCV has no morphology of 32-bit integers.
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * thickness + 1,) * 2)
    edges = (cv2.dilate(values, kernel) != cv2.erode(values, kernel)) & (labels > 0)
    canvas = image.copy()
    if edges.any():
        canvas[edges] = np.asarray(colors, np.uint8)[labels[edges] - 1]
    return canvas


def add_caption(image: np.ndarray, text: str) -> np.ndarray:
    """Put a strip of ``CAPTION_HEIGHT`` rows with ``text``, shrunk to fit the width, on top."""
    width = image.shape[1]
    strip = np.full((CAPTION_HEIGHT, width, 3), _BACKGROUND, dtype=np.uint8)
    font_scale = 0.6
    while font_scale > 0.1 and cv2.getTextSize(text, _FONT, font_scale, 1)[0][0] > width - 12:
        font_scale -= 0.02
    origin = (4, CAPTION_HEIGHT - 9)
    cv2.putText(strip, text, origin, _FONT, font_scale, _TEXT_COLOR, 1, cv2.LINE_AA)
    return np.concatenate([strip, image])


def montage(
    pictures: list[np.ndarray], columns: int, *, gap: int = 4, cell_width: int | None = None
) -> np.ndarray:
    """Arrange pictures of any sizes in rows of ``columns``, each at the top left of its cell.

    A column is as wide as its widest picture and a row as high as its highest.

    Args:
        pictures: each (H, W, 3).
        columns: number of pictures in a row.
        gap: pixels between cells.
        cell_width: scale every picture to this width. None: leave their sizes.

    Raises:
        UserError: if there is no picture, or ``columns`` is less than 1.
    """
    if not pictures or columns < 1:
        raise UserError(f"No montage of {len(pictures)} pictures in {columns} columns.")
    if cell_width is not None:
        pictures = [_scale_to_width(picture, cell_width) for picture in pictures]
    columns = min(columns, len(pictures))
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    heights = [max(picture.shape[0] for picture in row) for row in rows]
    widths = [max(picture.shape[1] for picture in pictures[i::columns]) for i in range(columns)]
    size = (sum(heights) + gap * (len(rows) - 1), sum(widths) + gap * (columns - 1), 3)
    canvas = np.full(size, _BACKGROUND, dtype=np.uint8)
    top = 0
    for row, row_height in zip(rows, heights, strict=True):
        left = 0
        for picture, width in zip(row, widths, strict=False):
            canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            left += width + gap
        top += row_height + gap
    return canvas


def comparison(
    image: np.ndarray,
    gt_masks: np.ndarray,
    pred_masks: np.ndarray,
    *,
    title: str = "image",
    short_side: int = 512,
) -> np.ndarray:
    """Draw image | ground truth contours | predicted contours, each with its count in a caption.

    Args:
        image: (H, W, 3).
        gt_masks: (N, H, W).
        pred_masks: (M, H, W).
        title: caption of the image.
        short_side: the image is enlarged to at least this by an integer factor.
    """
    scale = upscale_factor(*image.shape[:2], short_side)
    panels = [
        add_caption(upscale(image, scale), title),
        overlay(image, gt_masks, title="ground truth", short_side=short_side),
        overlay(image, pred_masks, title="prediction", short_side=short_side),
    ]
    return montage(panels, columns=len(panels))


def overlay(
    image: np.ndarray, masks: np.ndarray, *, title: str, short_side: int = 512
) -> np.ndarray:
    """Draw contours on the enlarged image under the caption "<title>: <N> nuclei"."""
    scale = upscale_factor(*image.shape[:2], short_side)
    drawn = draw_contours(image, masks, scale=scale, thickness=min(scale, 2))
    return add_caption(drawn, f"{title}: {len(masks)} {'nucleus' if len(masks) == 1 else 'nuclei'}")


def _find_contours(mask: np.ndarray, scale: int) -> list[np.ndarray]:
    """Find the contours of one mask in the enlarged image, looking at its bounding box only."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return []
    top, left = int(rows[0]), int(columns[0])
    crop = mask[top : rows[-1] + 1, left : columns[-1] + 1].astype(np.uint8)
    offset = (left * scale, top * scale)
    contours, _ = cv2.findContours(
        upscale(crop, scale), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=offset
    )
    return list(contours)


def _scale_to_width(picture: np.ndarray, width: int) -> np.ndarray:
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
