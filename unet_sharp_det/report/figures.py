"""The figures of a report on results, a function each; legends come last, see ``add_legend``."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import counted
from ..evaluation.instances.measures import THRESHOLDS
from .breakdown import Breakdown
from .collect import Method
from .comparison import Comparison
from .drawing import NEUTRAL, Plot, add_line, add_points, color_of, marker_of, new_plot, plain
from .estimates import Estimate, number
from .names import words_of

BOXES = ("DSB_score", "AJI_image_mean", "IoU_image_mean", "Dice_image_mean")


def difference_plot(comparison: Comparison, note: str) -> Plot:
    """Draw the differences of the headline measures in percent, a row per measure."""
    rows = [row for row in comparison.headline if row.measure.unit == "percent"]
    base, *others = comparison.methods
    caption = f"Difference to {base.label}: right of 0 is better. {note}"
    title, x = "Differences to the first run", "difference (percentage points)"
    size = (5.4, 1 + len(rows) * (0.22 + 0.08 * len(others)))
    plot = new_plot("differences", title, caption, x, "", size=size)
    places = np.arange(len(rows))[::-1]
    for place, (method, shift) in enumerate(zip(others, -_shifts(len(others)), strict=True)):
        differences = [row.differences[place] for row in rows]
        add_points(plot, places + shift, differences, method.label, place + 1, horizontal=True)
    plot.axes.axvline(0, color=NEUTRAL)
    plot.axes.set_yticks(places, [words_of(row.measure.name, long=False) for row in rows])
    plot.axes.set_ylim(-0.6, len(rows) - 0.4)
    return plot


def threshold_plots(comparison: Comparison, note: str) -> list[Plot]:
    """Draw AP against the IoU threshold: mean over images, pooled, and COCO's."""
    captions = {
        "image_mean": "Right objects / (right + false + missed objects), mean over images.",
        "pooled": "The same of all objects together.",
    }
    plots = []
    for kind, caption in captions.items():
        title = f"Cell AP, {'all objects together' if kind == 'pooled' else 'mean over images'}"
        plot = _threshold_plot(f"ap-{kind.replace('_', '-')}", title, f"{caption} {note}")
        for place, method in enumerate(comparison.methods):
            names = [f"cell_AP{100 * t:.0f}_{kind}" for t in THRESHOLDS]
            estimates = [comparison.estimates[place][name] for name in names]
            add_line(plot, THRESHOLDS, estimates, method.label, place)
        plots.append(plot)
    caption = (
        "Area under the interpolated precision-recall curve of all detections ranked by their "
        "score, whatever the score threshold."
    )
    plot = _threshold_plot("ap-coco", "Mask AP (COCO)", caption)
    for place, label, precision in _precisions(comparison.methods):
        estimates = [Estimate(100 * value) for value in precision.mean(axis=1)]
        add_line(plot, THRESHOLDS, estimates, label, place)
    return [plot for plot in [*plots, plot] if plot.axes.lines]


def _threshold_plot(key: str, title: str, caption: str) -> Plot:
    return new_plot(key, title, caption, "IoU threshold", "AP (%)", size=(4.4, 3.6), ylim=(0, 100))


def _precisions(methods: Sequence[Method]) -> list[tuple[int, str, np.ndarray]]:
    """Return number, label and COCO's precision (T, R), mean over seeds, of those with scores."""
    return [
        (place, each.label, np.mean([run.coco["segm"].precision for run in each.seeds], axis=0))
        for place, each in enumerate(methods)
        if all("segm" in run.coco for run in each.seeds)
    ]


def precision_recall_plots(methods: Sequence[Method]) -> list[Plot]:
    """Draw COCO's precision against recall at IoU .5 and .75; [] if no method has scores."""
    limits, plots = {"xlim": (0, 1), "ylim": (0, 1.03)}, []
    for level, text in {0: "0.50", 5: "0.75"}.items():
        caption = (
            "Precision (the largest at that recall or more) at 101 levels of recall, detections of "
            f"all images ranked by score and matched at IoU ≥ {text}."
        )
        title = f"Precision and recall at IoU {text}"
        plot = new_plot(f"pr-{level}", title, caption, "recall", "precision", **limits)
        for place, label, precision in _precisions(methods):
            style = {"color": color_of(place), "label": plain(label), "where": "pre"}
            recall = np.linspace(0, 1, precision.shape[1])
            plot.axes.step(recall, precision[level], **style)
        plots.append(plot)
    return [plot for plot in plots if plot.axes.lines]


def box_plots(methods: Sequence[Method], names: Sequence[str]) -> list[Plot]:
    """Draw the distribution over images of measures, a box per method."""
    plots = []
    units = {measure.name: measure.unit for measure in methods[0].seeds[0].results.measures}
    labels = [plain(method.label) for method in methods]
    for name in names:
        key = f"box-{name.lower().replace('_', '-')}"
        values = [method.image_values(name) for method in methods]
        caption = (
            f"{len(methods[0].images)} points. Box: quartiles, median; whiskers: the last "
            "point within 1.5 of the box's height; dashed: mean. "
            + " ".join(map(_distribution, methods, values))
        )
        title = words_of(name, long=False)
        unit = "%" if units[name] == "percent" else units[name]
        plot = new_plot(key, title, caption, "", f"{title} ({unit})")
        for place, method in enumerate(methods):
            _add_box(plot, place, method, values[place])
        plot.axes.set_xticks(range(len(methods)), labels)
        plot.axes.set_xlim(-0.6, len(methods) - 0.4)
        plots.append(plot)
    return plots


def _distribution(method: Method, values: np.ndarray) -> str:
    values = values[np.isfinite(values)]
    if not len(values):
        return f"{method.label}: no image has a value."
    lower, median, upper = np.percentile(values, [25, 50, 75])
    return (
        f"{method.label}: median {median:.2f}, quartiles {lower:.2f} and {upper:.2f}, "
        f"mean {values.mean():.2f}."
    )


def _add_box(plot: Plot, place: int, method: Method, values: np.ndarray) -> None:
    color, lines = color_of(place), ("boxprops", "medianprops", "whiskerprops", "capprops")
    plot.axes.boxplot(
        [values[np.isfinite(values)]],
        positions=[place],
        widths=0.5,
        showfliers=False,
        showmeans=True,
        meanline=True,
        meanprops={"color": color, "linestyle": "dashed"},
        **{part: {"color": color} for part in lines},
    )
    places = place + np.random.default_rng(0).uniform(-0.15, 0.15, len(values))
    _add_images(plot, places, values, method, place)


def group_plots(
    breakdowns: Sequence[Breakdown], methods: Sequence[Method], note: str
) -> list[Plot]:
    """Draw the recall of the objects of each group, a figure per breakdown."""
    plots = []
    for breakdown in breakdowns:
        key = breakdown.title.lower().replace(" ", "-")
        caption = f"Share of the true objects that are found, mean over IoU .50 to .95. {note}"
        plot = new_plot(f"found-{key}", breakdown.title, caption, "", "found (%)", ylim=(0, 103))
        for place, (method, shift) in enumerate(zip(methods, _shifts(len(methods)), strict=True)):
            estimates = [group.estimates[place]["recall"] for group in breakdown.groups]
            places = np.arange(len(estimates)) + shift
            add_points(plot, places, estimates, method.label, place)
        names = [plain(group.name).replace(" ", "\n") for group in breakdown.groups]
        plot.axes.set_xticks(range(len(names)), names)
        plot.axes.set_xlim(-0.6, len(names) - 0.4)
        plots.append(plot)
    return plots


def count_plots(methods: Sequence[Method]) -> list[Plot]:
    """Draw the agreement of the numbers of objects: against each other, and Bland-Altman."""
    true = np.array([len(each.true_areas) for each in methods[0].seeds[0].results.overlaps])
    images = f"{counted(len(true), 'image')}; point at one for the name of its file."
    title, caption = "Predicted against true number", f"Objects in each of {images}"
    counts = new_plot("counts", title, caption, "true objects", "predicted objects")
    line, limits = {"color": NEUTRAL, "linestyle": "dashed"}, []
    counts.axes.axline((0, 0), slope=1, label="equal", **line)
    axes = ("mean of both numbers", "predicted − true")
    bland = new_plot("agreement", "Agreement", "", *axes)
    bland.axes.axhline(0, **line)
    for place, method in enumerate(methods):
        found = method.object_counts
        difference = found - true
        _add_images(counts, true, found, method, place)
        _add_images(bland, (true + found) / 2, difference, method, place)
        if len(true) > 1:
            mean, spread = difference.mean(), 1.96 * difference.std(ddof=1)
            low, high = mean - spread, mean + spread
            for y, style in ((mean, "solid"), (low, "dotted"), (high, "dotted")):
                bland.axes.axhline(y, color=color_of(place), linestyle=style)
            texts = [number(each, sign=True) for each in (mean, low, high)]
            limits.append("{} {} ({} to {})".format(method.label, *texts))
    agreement = (
        "Difference against mean of both numbers (Bland and Altman, Lancet 327, 1986); solid: mean "
        "difference, dotted: limits of agreement, 1.96 standard deviations around it: "
        f"{'; '.join(limits)}. {images}"
    )
    return [counts, replace(bland, caption=agreement)]


def _add_images(plot: Plot, x: np.ndarray, y: np.ndarray, method: Method, place: int) -> None:
    """Draw a point per image of a method where y is defined, which says its file's name."""
    rows = np.flatnonzero(np.isfinite(y))
    (points,) = plot.axes.plot(
        x[rows],
        y[rows],
        linestyle="none",
        marker=marker_of(place),
        color=color_of(place),
        alpha=0.7,
        label=plain(method.label),
    )
    hints = [
        f"{method.label}, {method.images[row].file_name}: {x[row]:g}, {y[row]:g}" for row in rows
    ]
    plot.hint(points, hints)


def _shifts(methods: int) -> np.ndarray:
    """Return where the methods' points lie beside a category's place."""
    return (np.arange(methods) - (methods - 1) / 2) * min(0.18, 0.7 / methods)
