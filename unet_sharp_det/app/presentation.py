"""How the app shows results: the picture with outlines, sizes and their histogram, messages."""

import html
import math
from dataclasses import dataclass

import numpy as np

from ..images.intensity import prepare
from ..images.source import ImageSource
from ..masks.drawing import draw_label_contours, upscale, upscale_factor
from ..masks.instances import SparseInstances
from ..outputs.overlay import add_legend, draw_overlay, object_colors
from ..report.drawing import new_plot

LONGEST_SIDE = 1600

_MOST_BINS = 40
_BAR_COLOR, _LINE_COLOR = "#2a78b5", "#e0602b"


@dataclass(frozen=True)
class Sizes:
    """The sizes of N objects.

    Attributes:
        areas: (N,), in ``unit``.
        unit: ``"px"`` or ``"µm²"``.
        coverage: the fraction of the image that lies in objects.
    """

    areas: np.ndarray
    unit: str
    coverage: float


def measure(objects: SparseInstances, pixel_size: tuple[float, float] | None) -> Sizes:
    """Measure objects without overlaps; pixels of (y, x) micrometres, None: unknown."""
    areas = objects.areas
    coverage = areas.sum() / (objects.shape[0] * objects.shape[1])
    if pixel_size is None:
        return Sizes(areas.astype(float), "px", coverage)
    return Sizes(areas * (pixel_size[0] * pixel_size[1]), "µm²", coverage)


def to_display(source: ImageSource) -> np.ndarray:
    """Return an image with stretched contrast, uint8 (h, w, 3), at most ``LONGEST_SIDE`` long."""
    prepared = prepare(source, "RGB", stretch_contrast=True)
    return draw_overlay(SparseInstances.empty(source.shape), prepared, LONGEST_SIDE)


def draw_objects(
    display: np.ndarray, objects: SparseInstances, class_names: tuple[str, ...]
) -> np.ndarray:
    """Draw the outlines of objects on an image; small images are enlarged.

    Args:
        display: uint8 (h, w, 3), from :func:`to_display`.
        objects: in the coordinates of the image, which may be larger.
        class_names: several give outlines the colours of the classes, and a legend.

    Returns:
        np.ndarray: uint8 (H, W, 3).
    """
    factor = math.ceil(max(objects.shape) / LONGEST_SIDE)
    labels = _reduced_labels(objects, display.shape[:2], factor)
    enlarged = min(upscale_factor(*labels.shape), max(1, LONGEST_SIDE // max(labels.shape)))
    labels = upscale(labels, enlarged)
    thickness = max(1, round(max(labels.shape) / 800))
    colors = object_colors(objects, class_names)
    enlarged_image = upscale(display, enlarged)
    picture = draw_label_contours(enlarged_image, labels, colors, thickness=thickness)
    return add_legend(picture, class_names)


def _reduced_labels(objects: SparseInstances, shape: tuple[int, int], factor: int) -> np.ndarray:
    """Return int32 of ``shape``: a pixel has the last object that its block has a pixel of."""
    if factor == 1:
        return objects.label_map()
    labels = np.zeros(shape, np.int32)
    for number, (mask, box) in enumerate(zip(objects.masks, objects.boxes, strict=True), 1):
        rows, columns = np.nonzero(mask)
        labels[(rows + box[1]) // factor, (columns + box[0]) // factor] = number
    return labels


def count_areas(areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of objects (B,) in bins of area, and the bins' edges (B + 1,)."""
    edges = np.histogram_bin_edges(areas, bins="auto")
    if len(edges) - 1 > _MOST_BINS:
        edges = _MOST_BINS
    return np.histogram(areas, bins=edges)


def histogram(sizes: Sizes) -> str:
    """Draw how many objects have which area, with a line at the median, as SVG."""
    x = f"Area ({sizes.unit}), dashed: median"
    plot = new_plot("areas", "", "", x, "Objects", size=(3.8, 2.4))
    if len(sizes.areas):
        counts, edges = count_areas(sizes.areas)
        bars = plot.axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=_BAR_COLOR)
        for bar, count, low, high in zip(bars, counts, edges[:-1], edges[1:], strict=True):
            plot.hint(bar, [f"{_short(low)} to {_short(high)} {sizes.unit}: {count} objects"])
        plot.axes.axvline(np.median(sizes.areas), color=_LINE_COLOR, linestyle="dashed")
    plot.axes.yaxis.get_major_locator().set_params(integer=True)
    return plot.svg()


def summary(sizes: Sizes, objects: SparseInstances, class_names: tuple[str, ...]) -> str:
    """Return the numbers of objects without overlaps as HTML."""
    mean = median = "–"
    if len(objects):
        mean, median = (f"{_short(f(sizes.areas))} {sizes.unit}" for f in (np.mean, np.median))
    numbers = {
        "Objects": f"{len(objects):,}",
        "Mean area": mean,
        "Median area": median,
        "Covered": f"{sizes.coverage:.1%}",
    }
    if len(class_names) > 1:
        counts = np.bincount(objects.classes, minlength=len(class_names))
        numbers |= {name: f"{n:,}" for name, n in zip(class_names, counts, strict=True)}
    cells = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in numbers.items()
    )
    return f'<dl class="numbers" aria-label="Results" aria-live="polite">{cells}</dl>'


def message(text: str, *, error: bool = False) -> str:
    """Return a message as HTML; the text is shown as it is."""
    role = "alert" if error else "status"
    return f'<p class="message {role}" role="{role}">{html.escape(text)}</p>' if text else ""


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
