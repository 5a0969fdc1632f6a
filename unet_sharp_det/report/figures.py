"""The figures of a report on results, a function each; legends come last, see ``add_legend``."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..evaluation.instances.measures import THRESHOLDS
from .breakdown import Group
from .collect import RunReport
from .comparison import Comparison
from .drawing import (
    NEUTRAL,
    Plot,
    add_line,
    add_points,
    color_of,
    marker_of,
    new_plot,
    plain,
)
from .estimates import Estimate

BOXES = {
    "IoU_image_mean": "IoU of the foreground",
    "Dice_image_mean": "Dice of the foreground",
    "DSB_score": "DSB score",
    "AJI_image_mean": "AJI",
}


def difference_plot(comparison: Comparison, note: str) -> Plot:
    """Draw the differences of the headline measures in percent, a row per measure."""
    rows = [row for row in comparison.headline if row.measure.unit == "percent"]
    base, *others = comparison.runs
    caption = (
        f"Difference to {base.label} of measures in which more is better: right of 0 is better. "
        f"Measures of images are means over the {len(base.images)} images. {note}"
    )
    title, x = "Differences to the first run", "difference (percentage points)"
    size = (5.4, 1 + len(rows) * (0.22 + 0.08 * len(others)))
    plot = new_plot("differences", title, caption, x, "", size=size)
    places = np.arange(len(rows))[::-1]
    for number, (run, shift) in enumerate(zip(others, -_shifts(len(others)), strict=True), 1):
        differences = [row.differences[number - 1] for row in rows]
        add_points(plot, places + shift, differences, run.label, number, horizontal=True)
    plot.axes.axvline(0, color=NEUTRAL)
    plot.axes.set_yticks(places, [row.measure.name.removesuffix("_image_mean") for row in rows])
    plot.axes.set_ylim(-0.6, len(rows) - 0.4)
    return plot


def threshold_plots(comparison: Comparison, note: str) -> list[Plot]:
    """Draw AP against the IoU threshold: mean over images, pooled, and COCO's."""
    images = len(comparison.runs[0].images)
    captions = {
        "image_mean": f"Mean over {images} images of TP / (TP + FP + FN).",
        "pooled": f"TP / (TP + FP + FN) of all objects of {images} images together.",
    }
    plots = []
    for kind, caption in captions.items():
        title = f"Cell AP, {'pooled' if kind == 'pooled' else 'mean over images'}"
        plot = _threshold_plot(f"ap-{kind.replace('_', '-')}", title, f"{caption} {note}")
        for number, run in enumerate(comparison.runs):
            names = [f"cell_AP{100 * t:.0f}_{kind}" for t in THRESHOLDS]
            estimates = [comparison.estimates[number][name] for name in names]
            add_line(plot, THRESHOLDS, estimates, run.label, number)
        plots.append(plot)
    caption = (
        "COCO's AP of masks: area under the interpolated precision-recall curve of all detections "
        "ranked by their score, whatever the score threshold. The intervals of AP50 and AP75 are "
        "in the table of all measures."
    )
    plot = _threshold_plot("ap-coco", "COCO AP of masks", caption)
    for number, run in _with_scores(comparison.runs):
        result = run.coco["segm"]
        estimates = [Estimate(100 * value) for value in result.precision.mean(axis=1)]
        add_line(plot, result.iou_thresholds, estimates, run.label, number)
    return [plot for plot in [*plots, plot] if plot.axes.lines]


def _threshold_plot(key: str, title: str, caption: str) -> Plot:
    return new_plot(key, title, caption, "IoU threshold", "AP (%)", ylim=(0, 100))


def _with_scores(runs: Sequence[RunReport]) -> list[tuple[int, RunReport]]:
    return [(number, run) for number, run in enumerate(runs) if "segm" in run.coco]


def precision_recall_plots(runs: Sequence[RunReport]) -> list[Plot]:
    """Draw COCO's precision against recall at IoU .5 and .75; [] if no run has scores."""
    limits, plots = {"xlim": (0, 1), "ylim": (0, 1.03)}, []
    for level, text in {0: "0.50", 5: "0.75"}.items():
        caption = (
            "Precision (the largest at that recall or more) at 101 levels of recall, detections of "
            f"all images ranked by score and matched at IoU ≥ {text}. The area under the curve is "
            f"AP{round(100 * float(text))}."
        )
        plot = new_plot(f"pr-{level}", f"IoU {text}", caption, "recall", "precision", **limits)
        for number, run in _with_scores(runs):
            result = run.coco["segm"]
            style = {"color": color_of(number), "label": plain(run.label), "where": "pre"}
            plot.axes.step(result.recall_thresholds, result.precision[level], **style)
        plots.append(plot)
    return [plot for plot in plots if plot.axes.lines]


def box_plots(runs: Sequence[RunReport], boxes: dict[str, str] = BOXES) -> list[Plot]:
    """Draw the distribution over images of measures ``{name: title}``, a box per run."""
    plots = []
    units = {measure.name: measure.unit for measure in runs[0].results.measures}
    for name, title in boxes.items():
        key, labels = f"box-{name.lower().replace('_', '-')}", [plain(run.label) for run in runs]
        caption = (
            f"{title} of each of {len(runs[0].images)} images. Box: quartiles, median; whiskers: "
            "the last image within 1.5 of the box's height; dashed: mean; points: all images. "
            + " ".join(_distribution(run, name) for run in runs)
        )
        unit = "%" if units[name] == "percent" else units[name]
        plot = new_plot(key, title, caption, "", f"{title} ({unit})")
        for number, run in enumerate(runs):
            _add_box(plot, number, run, name)
        plot.axes.set_xticks(range(len(runs)), labels)
        plot.axes.set_xlim(-0.6, len(runs) - 0.4)
        plots.append(plot)
    return plots


def _distribution(run: RunReport, name: str) -> str:
    values = _defined_values(run, name)[1]
    if not len(values):
        return f"{run.label}: no image has a value."
    lower, median, upper = np.percentile(values, [25, 50, 75])
    return (
        f"{run.label}: median {median:.2f}, quartiles {lower:.2f} and {upper:.2f}, "
        f"mean {values.mean():.2f}."
    )


def _defined_values(run: RunReport, name: str, rows=slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of ``rows`` that have a value of a measure, and the values."""
    values = run.image_values(name)
    rows = np.arange(len(values))[rows]
    rows = rows[np.isfinite(values[rows])]
    return rows, values[rows]


def _add_box(plot: Plot, number: int, run: RunReport, name: str) -> None:
    (rows, values), color = _defined_values(run, name), color_of(number)
    lines = ("boxprops", "medianprops", "whiskerprops", "capprops")
    plot.axes.boxplot(
        [values],
        positions=[number],
        widths=0.5,
        showfliers=False,
        showmeans=True,
        meanline=True,
        meanprops={"color": color, "linestyle": "dashed"},
        **{part: {"color": color} for part in lines},
    )
    places = number + np.random.default_rng(0).uniform(-0.15, 0.15, len(values))
    _add_images(plot, places, values, run, number, rows)


def look_plots(groups: Sequence[Group], runs: Sequence[RunReport], note: str) -> list[Plot]:
    """Draw the DSB score and the AJI of each look."""
    names = [f"{plain(group.name)}\n{group.extent}" for group in groups]
    caption = f"Mean over the images of each look; one image has no interval. {note}"
    plots = []
    for name, title in {"DSB_score": "DSB score", "AJI_image_mean": "AJI"}.items():
        key = f"look-{title.split()[0].lower()}"
        plot = new_plot(key, f"{title} by look", caption, "", f"{title} (%)", ylim=(0, 103))
        _add_groups(plot, names, groups, runs, name)
        plots.append(plot)
    return plots


def size_plots(bins: Sequence[Group], runs: Sequence[RunReport], note: str) -> list[Plot]:
    """Draw recall by the size of true objects, and precision by that of predicted ones."""
    contents = {
        "recall": "True objects that are matched at IoU ≥ .5",
        "precision": "Predicted objects, binned by their own area, that are matched at IoU ≥ .5",
    }
    objects = sum(of_size.objects for of_size in bins)
    names = [of_size.extent.removesuffix(" px") for of_size in bins]
    plots = []
    for name, caption in contents.items():
        caption = f"{caption}. The bins hold a quarter of the {objects} true objects each. {note}"
        title, axes = f"{name.capitalize()} by size", ("area (px)", f"{name} (%)")
        plot = new_plot(f"{name}-by-size", title, caption, *axes, ylim=(0, 103))
        _add_groups(plot, names, bins, runs, f"{name}_50")
        plots.append(plot)
    return plots


def _add_groups(
    plot: Plot,
    names: list[str],
    groups: Sequence[Group],
    runs: Sequence[RunReport],
    measure: str,
) -> None:
    """Draw a measure of each run in each group."""
    for number, (run, shift) in enumerate(zip(runs, _shifts(len(runs)), strict=True)):
        estimates = [group.estimates[number][measure] for group in groups]
        add_points(plot, np.arange(len(groups)) + shift, estimates, run.label, number)
    plot.axes.set_xticks(range(len(names)), names)
    plot.axes.set_xlim(-0.6, len(names) - 0.4)


def score_plot(
    runs: Sequence[RunReport], order: np.ndarray, measure="DSB_score", title="DSB score"
) -> Plot:
    """Draw a measure of every image, in an order of the images' rows."""
    caption = f"Each of {len(order)} images; point at one for the name of its file."
    x = "images, by the score of the first run"
    plot = new_plot("scores", f"{title} of every image", caption, x, f"{title} (%)")
    for number, run in enumerate(runs):
        rows, values = _defined_values(run, measure, order)
        _add_images(plot, 1 + np.argsort(order)[rows], values, run, number, rows)
    return plot


def count_plots(runs: Sequence[RunReport]) -> list[Plot]:
    """Draw the agreement of the numbers of objects: against each other, and Bland-Altman."""
    true = np.array([len(overlap.true_areas) for overlap in runs[0].results.overlaps])
    images = f"{len(true)} images; point at one for the name of its file."
    title, caption = "Predicted against true number", f"Objects in each of {images}"
    counts = new_plot("counts", title, caption, "true objects", "predicted objects")
    line, limits = {"color": NEUTRAL, "linestyle": "dashed"}, []
    counts.axes.axline((0, 0), slope=1, label="equal", **line)
    axes = ("mean of both numbers", "predicted − true")
    bland = new_plot("agreement", "Agreement", "", *axes)
    bland.axes.axhline(0, **line)
    for number, run in enumerate(runs):
        found = np.array([len(overlap.pred_areas) for overlap in run.results.overlaps])
        difference = found - true
        _add_images(counts, true, found, run, number)
        _add_images(bland, (true + found) / 2, difference, run, number)
        if len(true) > 1:
            mean, spread = difference.mean(), 1.96 * difference.std(ddof=1)
            low, high = mean - spread, mean + spread
            for y, style in ((mean, "solid"), (low, "dotted"), (high, "dotted")):
                bland.axes.axhline(y, color=color_of(number), linestyle=style)
            numbers = f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]".replace("-", "−")
            limits.append(f"{run.label} {numbers}")
    agreement = (
        "Difference against mean of both numbers (Bland and Altman, Lancet 327, 1986); solid: mean "
        "difference, dotted: limits of agreement, 1.96 standard deviations around it: "
        f"{'; '.join(limits)}. {images}"
    )
    return [counts, replace(bland, caption=agreement)]


def _add_images(plot: Plot, x, y, run: RunReport, number: int, rows=slice(None)) -> None:
    """Draw a point per image of a run, of those in ``rows``, which says its file's name."""
    (points,) = plot.axes.plot(
        x,
        y,
        linestyle="none",
        marker=marker_of(number),
        color=color_of(number),
        alpha=0.7,
        label=plain(run.label),
    )
    names = np.array([image.file_name for image in run.images], dtype=object)[rows]
    hints = [f"{run.label}, {name}: {a:g}, {b:g}" for name, a, b in zip(names, x, y, strict=True)]
    plot.hint(points, hints)


def _shifts(runs: int) -> np.ndarray:
    """Return where the runs' points lie beside a category's place."""
    return (np.arange(runs) - (runs - 1) / 2) * min(0.18, 0.7 / runs)
