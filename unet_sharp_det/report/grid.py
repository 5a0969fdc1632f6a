"""Images beside methods: the pixels that each run gets right and wrong (UNet#, Figure 6)."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.patches import Patch

from ..errors import look_up_option
from ..evaluation.instances.overlap import without_void
from .collect import RunReport, find_picture
from .drawing import Plot, new_figure, plain
from .overlays import FN, FP, OUTCOME_COLORS, TP

IGNORED_COLOR = (128, 128, 128)

_SCORE = "IoU_image_mean"
_BRIGHTEST = 90  # Outcomes stand out on it.
_INCHES = 1.9
_SIDE_RATIOS = (0.2, 4)  # Longer images are drawn smaller.


def choose_images(runs: Sequence[RunReport], images: Sequence[str]) -> list[int]:
    """Return the rows of the images to draw.

    Args:
        runs: on the same images.
        images: one number N: the N images where the runs' IoU of the foreground differs most, of a
            single run those with the least; or image ids or stems of file names.

    Raises:
        UserError: an image is unknown.
    """
    if len(images) == 1 and images[0].isdecimal():
        values = np.array([run.results.image_values(_SCORE) for run in runs])
        interest = np.ptp(values, axis=0) if len(runs) > 1 else -values[0]
        return np.argsort(-interest, kind="stable")[: int(images[0])].tolist()
    rows = {Path(image.file_name).stem: row for row, image in enumerate(runs[0].images)}
    rows |= {str(image.image_id): row for row, image in enumerate(runs[0].images)}
    return [rows[look_up_option(name, list(rows), "--grid")] for name in images]


def grid_plot(runs: Sequence[RunReport], rows: Sequence[int]) -> Plot:
    """Draw a row per image: image, ground truth, and the outcome of each run with its IoU."""
    columns = ["image", "ground truth", *(run.label for run in runs)]
    sides = np.array([runs[0].images[row].shape for row in rows])
    heights = _INCHES * np.clip(sides[:, 0] / sides[:, 1], *_SIDE_RATIOS) + 0.3
    figure = new_figure(_INCHES * len(columns), sum(heights) + 0.7)
    axes = figure.subplots(len(rows), len(columns), squeeze=False, height_ratios=heights)
    colors = {
        "true positive": OUTCOME_COLORS[TP],
        "false positive": OUTCOME_COLORS[FP],
        "false negative": OUTCOME_COLORS[FN],
    }
    for of_image, row in zip(axes, rows, strict=True):
        stem = Path(runs[0].images[row].file_name).stem
        truth, void, found = _foregrounds(runs, row)
        if void.any():
            colors["ignored"] = IGNORED_COLOR
        picture = find_picture(runs, row)
        ground = np.zeros((*truth.shape, 3), np.uint8) if picture is None else picture
        pictures = [ground, truth_picture(truth, void)]
        pictures += [pixel_picture(ground, truth, each, void) for each in found]
        for ax, shown in zip(of_image, pictures, strict=True):
            ax.imshow(shown)
            ax.set(xticks=[], yticks=[])
        of_image[0].set_xlabel(plain(stem if len(stem) <= 22 else f"{stem[:20]}..."))
        for ax, run in zip(of_image[2:], runs, strict=True):
            ax.set_xlabel(f"IoU {run.results.image_values(_SCORE)[row]:.1f} %")
    for ax, label in zip(axes[0], columns, strict=True):
        ax.set_title(plain(textwrap.fill(label, 22)), fontsize="medium")
    style = {"edgecolor": "black", "linewidth": 0.5}
    handles = [Patch(fc=np.divide(c, 255), label=name, **style) for name, c in colors.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    caption = (
        "Pixels of the foreground, whatever object they are of, on the dimmed images, and their "
        "IoU. Objects below the least score and area of the summary are left out."
    )
    return Plot("grid", "Pixels right and wrong", caption, figure)


def pixel_picture(
    image: np.ndarray, truth: np.ndarray, found: np.ndarray, void: np.ndarray
) -> np.ndarray:
    """Colour true and false positives, false negatives and ignored pixels on the dimmed image.

    Args:
        image: uint8 (H, W, 3) in RGB; its brightest pixel becomes equally dark in all images.
        truth, found, void: bool (H, W); ``void`` are ignored.
    """
    gray = image.mean(axis=2, keepdims=True)
    picture = np.repeat(gray * (_BRIGHTEST / max(gray.max(), 1)), 3, axis=2).astype(np.uint8)
    for name, pixels in {TP: found & truth, FP: found & ~truth, FN: ~found & truth}.items():
        picture[pixels] = OUTCOME_COLORS[name]
    picture[void] = IGNORED_COLOR
    return picture


def truth_picture(truth: np.ndarray, void: np.ndarray) -> np.ndarray:
    """Draw the ground truth in white on black, ignored pixels in gray."""
    picture = np.repeat(truth[..., None] * np.uint8(255), 3, axis=2)
    picture[void] = IGNORED_COLOR
    return picture


def _foregrounds(runs: Sequence[RunReport], row: int):
    """Return the true pixels (H, W) of an image, its ignored ones, and those of each run."""
    image_id, found = runs[0].images[row].image_id, []
    void = runs[0].truth.void(image_id)
    for run in runs:
        maps = run.truth.instance_map(image_id), run.predictions.instance_map(image_id)
        truth, predicted = without_void(*maps, void)
        found.append(predicted.labels > 0)
    ignored = np.zeros(truth.labels.shape, bool) if void is None else void
    return truth.labels > 0, ignored, found
