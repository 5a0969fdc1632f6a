"""IoU and Dice of pixel sets: counts of an image, their summary, its definitions and files.

P is the set of the predicted pixels and G that of the true ones, both among the valid pixels; the
rest of the valid pixels are the background of each.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ...files import atomic_path

_IOU = "|P & G| / |P | G|"
_DICE = "2 |P & G| / (|P| + |G|)"
_POOLED = "with the pixels of all images counted together"
_TWO_CLASSES = "averaged over the foreground and the background"
_EMPTY = "100 where both sets are empty, 0 where only one is"

# Every metric is in percent, of P and G, the predicted and the true pixels of the foreground.
DEFINITIONS = {
    "IoU_image_mean": f"mean over images of {_IOU}; {_EMPTY}",
    "Dice_image_mean": f"mean over images of {_DICE}; {_EMPTY}",
    "IoU_pooled": f"{_IOU} {_POOLED}; {_EMPTY}",
    "Dice_pooled": f"{_DICE} {_POOLED}; {_EMPTY}",
    "IoU_two_class_image_mean": f"mean over images of {_IOU}, {_TWO_CLASSES}; {_EMPTY}",
    "Dice_two_class_image_mean": f"mean over images of {_DICE}, {_TWO_CLASSES}; {_EMPTY}",
    "IoU_two_class_pooled": f"{_IOU} {_POOLED}, {_TWO_CLASSES}; {_EMPTY}",
    "Dice_two_class_pooled": f"{_DICE} {_POOLED}, {_TWO_CLASSES}; {_EMPTY}",
}


@dataclass(frozen=True)
class Overlap:
    """Numbers of pixels of P & G, of G, of P, and of all that are valid; the sum pools images."""

    intersection: int = 0
    gt_pixels: int = 0
    pred_pixels: int = 0
    valid_pixels: int = 0

    @classmethod
    def count(
        cls, predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None
    ) -> "Overlap":
        """Count bool masks of the same shape. Only pixels of ``valid`` count; None: all do."""
        if valid is None:
            valid = np.ones_like(truth)
        predicted, truth = predicted & valid, truth & valid
        sets = (predicted & truth, truth, predicted, valid)
        return cls(*(int(np.count_nonzero(pixels)) for pixels in sets))

    def __add__(self, other: "Overlap") -> "Overlap":
        return Overlap(
            self.intersection + other.intersection,
            self.gt_pixels + other.gt_pixels,
            self.pred_pixels + other.pred_pixels,
            self.valid_pixels + other.valid_pixels,
        )

    @property
    def background(self) -> "Overlap":
        """The counts of what is neither ignored nor foreground."""
        union = self.gt_pixels + self.pred_pixels - self.intersection
        return Overlap(
            self.valid_pixels - union,
            self.valid_pixels - self.gt_pixels,
            self.valid_pixels - self.pred_pixels,
            self.valid_pixels,
        )

    @property
    def iou(self) -> float:
        """|P & G| / |P | G|; 1 where both are empty."""
        return _ratio(self.intersection, self.gt_pixels + self.pred_pixels - self.intersection)

    @property
    def dice(self) -> float:
        """2 |P & G| / (|P| + |G|); 1 where both are empty."""
        return _ratio(2 * self.intersection, self.gt_pixels + self.pred_pixels)

    @property
    def ratios(self) -> dict[str, float]:
        """IoU, Dice, and the mean of each over foreground and background; all from 0 to 1."""
        return {
            "IoU": self.iou,
            "Dice": self.dice,
            "IoU_two_class": (self.iou + self.background.iou) / 2,
            "Dice_two_class": (self.dice + self.background.dice) / 2,
        }


def summarize(images: list[Overlap]) -> dict[str, float]:
    """Return every metric of ``DEFINITIONS`` in percent; NaN without images."""
    if not images:
        return dict.fromkeys(DEFINITIONS, float("nan"))
    ratios = [image.ratios for image in images]
    metrics = {}
    for name, pooled in sum(images, Overlap()).ratios.items():
        metrics[f"{name}_image_mean"] = float(np.mean([values[name] for values in ratios]))
        metrics[f"{name}_pooled"] = pooled
    return {name: 100.0 * metrics[name] for name in DEFINITIONS}


def summarize_channels(channels: dict[str, list[Overlap]]) -> dict[str, float]:
    """Summarize one or several foreground channels.

    Args:
        channels: the images' counts by the channel's name.

    Returns:
        dict: as :func:`summarize` of the only channel; of several, the means over the channels,
        then ``<metric>/<channel>`` of each.
    """
    summaries = {name: summarize(images) for name, images in channels.items()}
    means = {
        metric: float(np.mean([summary[metric] for summary in summaries.values()]))
        for metric in DEFINITIONS
    }
    if len(summaries) == 1:
        return means
    by_channel = {
        f"{metric}/{name}": summary[metric]
        for name, summary in summaries.items()
        for metric in DEFINITIONS
    }
    return {**means, **by_channel}


def define(metrics: Iterable[str]) -> dict[str, str]:
    """Return ``{metric: definition}`` of the metrics that a summary holds."""
    metrics = list(metrics)
    of_all = "mean over the channels: " if any("/" in metric for metric in metrics) else ""
    definitions = {}
    for metric in metrics:
        name, _, channel = metric.partition("/")
        of_what = f"channel {channel}: " if channel else of_all
        definitions[metric] = of_what + DEFINITIONS[name]
    return definitions


def format_metrics(metrics: dict[str, float]) -> str:
    """Format metrics as lines "<metric> <value>: <definition>"."""
    definitions = define(metrics)
    return "\n".join(f"{name} {value:.2f}: {definitions[name]}" for name, value in metrics.items())


def percent(ratio: float) -> str:
    """Format a ratio from 0 to 1 for the files: in percent, with 4 decimals."""
    return f"{100 * ratio:.4f}"


def write_csv(path, columns: Iterable[str], rows: Iterable[Iterable]) -> None:
    """Write a CSV file with a header, atomically."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
