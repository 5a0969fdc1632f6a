"""How the app shows results: the picture with outlines, the histogram, numbers and messages."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

import numpy as np

from ..masks.drawing import distinct_colors, draw_label_contours, upscale, upscale_factor
from ..masks.instances import SparseInstances

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..images.source import ImageSource
    from .analysis import Sizes

LONGEST_SIDE = 1600

_MOST_BINS = 40
_BAR_COLOR = "#2a78b5"
_LINE_COLOR = "#e0602b"
_TEXT_COLOR = "#808791"  # legible on white and on black


def to_display(source: ImageSource) -> np.ndarray:
    """Return an image with stretched contrast, uint8 (h, w, 3), at most ``LONGEST_SIDE`` long."""
    from ..images.intensity import prepare
    from ..outputs.overlay import draw_overlay

    prepared = prepare(source, "RGB", stretch_contrast=True)
    return draw_overlay(SparseInstances.empty(source.shape), prepared, LONGEST_SIDE)


def draw_objects(display: np.ndarray, objects: SparseInstances) -> np.ndarray:
    """Draw the outlines of objects on an image; small images are enlarged.

    Args:
        display: uint8 (h, w, 3), from :func:`to_display`.
        objects: in the coordinates of the image, which may be larger.

    Returns:
        np.ndarray: uint8 (H, W, 3).
    """
    factor = math.ceil(max(objects.shape) / LONGEST_SIDE)
    labels = _reduced_labels(objects, display.shape[:2], factor)
    enlarged = upscale_factor(*labels.shape)
    enlarged = max(1, min(enlarged, LONGEST_SIDE // max(labels.shape)))
    labels = upscale(labels, enlarged)
    colors = distinct_colors(len(objects))
    thickness = max(1, round(max(labels.shape) / 800))
    return draw_label_contours(upscale(display, enlarged), labels, colors, thickness=thickness)


def _reduced_labels(objects: SparseInstances, shape: tuple[int, int], factor: int) -> np.ndarray:
    """Return int32 of ``shape``: a pixel has the last object that its block has a pixel of."""
    if factor == 1:
        return objects.label_map()
    labels = np.zeros(shape, np.int32)
    for number, (mask, box) in enumerate(zip(objects.masks, objects.boxes, strict=True), 1):
        rows, columns = np.nonzero(mask)
        labels[(rows + box[1]) // factor, (columns + box[0]) // factor] = number
    return labels


def histogram(sizes: Sizes) -> go.Figure:
    """Return how many objects have which area, with a line at the median."""
    import plotly.graph_objects as go

    figure = go.Figure()
    if len(sizes.areas):
        counts, edges = np.histogram(sizes.areas, bins=_bins(sizes.areas))
        pairs = zip(edges[:-1], edges[1:], strict=True)
        ranges = [f"{_short(low)} to {_short(high)}" for low, high in pairs]
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            width=np.diff(edges),
            marker={"color": _BAR_COLOR, "line": {"width": 0}},
            customdata=ranges,
            hovertemplate=f"%{{customdata}} {sizes.unit}: %{{y}} objects<extra></extra>",
        )
        if counts.max() <= 6:
            figure.update_yaxes(dtick=1)
        figure.add_vline(float(np.median(sizes.areas)), line_color=_LINE_COLOR, line_dash="dash")
    figure.update_layout(
        height=240,
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        bargap=0.05,
        showlegend=False,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": _TEXT_COLOR},
        xaxis={"title": f"Area ({sizes.unit}), dashed: median", "automargin": True},
        yaxis={"title": "Objects", "automargin": True, "rangemode": "tozero"},
    )
    figure.update_xaxes(gridcolor="rgba(128,128,128,.2)", zeroline=False)
    figure.update_yaxes(gridcolor="rgba(128,128,128,.2)", zeroline=False, tickformat=",d")
    return figure


def _bins(areas: np.ndarray) -> np.ndarray:
    edges = np.histogram_bin_edges(areas, bins="auto")
    if len(edges) - 1 <= _MOST_BINS:
        return edges
    return np.linspace(edges[0], edges[-1], _MOST_BINS + 1)


def summary(sizes: Sizes, objects: SparseInstances, class_names: tuple[str, ...]) -> str:
    """Return the numbers of objects without overlaps as HTML."""
    if len(objects):
        mean, median = (f"{_short(f(sizes.areas))} {sizes.unit}" for f in (np.mean, np.median))
    else:
        mean = median = "–"
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


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def message(text: str, *, error: bool = False) -> str:
    """Return a message as HTML; the text is shown as it is."""
    role = "alert" if error else "status"
    return f'<p class="message {role}" role="{role}">{html.escape(text)}</p>' if text else ""
