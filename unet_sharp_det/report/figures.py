"""The figures of a report on results, a function each."""

from collections.abc import Sequence

import numpy as np

from ..evaluation.instances.measures import THRESHOLDS
from .breakdown import LookGroup, SizeBin
from .collect import RunReport
from .comparison import Comparison, Row
from .estimates import Estimate
from .plotting import (
    NEUTRAL,
    Plot,
    add_line,
    add_points,
    color_of,
    new_figure,
    plain,
    symbol_of,
    transparent,
)

BOXES = {
    "IoU_image_mean": "IoU of the foreground",
    "Dice_image_mean": "Dice of the foreground",
    "DSB_score": "DSB score",
    "AJI_image_mean": "AJI",
}
_LEVELS = {0: "0.50", 5: "0.75"}


def difference_plot(comparison: Comparison, note: str) -> Plot:
    """Draw the differences of the headline measures in percent, a row per measure."""
    rows: list[Row] = [row for row in comparison.headline if row.quantity.unit == "percent"]
    base, *others = comparison.runs
    figure = new_figure("difference (percentage points)", "")
    places = np.arange(len(rows))[::-1]
    for number, run in enumerate(others, start=1):
        shift = 0.22 * ((len(others) - 1) / 2 - (number - 1)) / max(1, len(others) / 2)
        differences = [row.differences[number - 1] for row in rows]
        add_points(figure, places + shift, differences, run.label, number, horizontal=True)
    figure.add_vline(x=0, line={"color": NEUTRAL, "width": 1.5})
    names = [row.quantity.name.removesuffix("_image_mean") for row in rows]
    figure.update_layout(
        yaxis={"tickvals": places, "ticktext": names, "range": [-0.6, len(rows) - 0.4]},
        showlegend=len(others) > 1,
    )
    caption = (
        f"Difference to {base.label} of measures in which more is better: right of 0 is better. "
        f"Measures of images are means over the {len(base.images)} images. {note}"
    )
    height = 130 + len(rows) * (26 + 8 * len(others))
    return Plot("differences", "Differences to the first run", caption, figure, height)


def threshold_plots(comparison: Comparison, note: str) -> list[Plot]:
    """Draw AP against the IoU threshold: mean over images, pooled, and COCO's."""
    images = len(comparison.runs[0].images)
    titles = {
        "image_mean": (
            "Cell AP, mean over images",
            f"Mean over {images} images of TP / (TP + FP + FN). {note}",
        ),
        "pooled": (
            "Cell AP, pooled",
            f"TP / (TP + FP + FN) of all objects of {images} images together. {note}",
        ),
    }
    plots = []
    for kind, (title, caption) in titles.items():
        figure = new_figure("IoU threshold", "AP (%)", yaxis_range=[0, 100])
        for number, run in enumerate(comparison.runs):
            names = [f"cell_AP{100 * t:.0f}_{kind}" for t in THRESHOLDS]
            estimates = [comparison.estimates[number][name] for name in names]
            add_line(figure, THRESHOLDS, estimates, run.label, number)
        plots.append(Plot(f"ap-{kind.replace('_', '-')}", title, caption, figure))
    if any("segm" in run.coco for run in comparison.runs):
        plots.append(_coco_threshold_plot(comparison))
    return plots


def _coco_threshold_plot(comparison: Comparison) -> Plot:
    figure = new_figure("IoU threshold", "AP (%)", yaxis_range=[0, 100])
    for number, run in enumerate(comparison.runs):
        if "segm" in run.coco:
            result = run.coco["segm"]
            estimates = [Estimate(100 * value) for value in result.precision.mean(axis=1)]
            add_line(figure, result.iou_thresholds, estimates, run.label, number)
    caption = (
        "COCO's AP of masks: area under the interpolated precision-recall curve of all detections "
        "ranked by their score, whatever the score threshold. The intervals of AP50 and AP75 are "
        "in the table of all measures."
    )
    return Plot("ap-coco", "COCO AP of masks", caption, figure)


def precision_recall_plots(runs: Sequence[RunReport]) -> list[Plot]:
    """Draw COCO's precision against recall at IoU .5 and .75; [] if no run has scores."""
    scored = [(number, run) for number, run in enumerate(runs) if "segm" in run.coco]
    plots = []
    for level, text in _LEVELS.items() if scored else ():
        figure = new_figure("recall", "precision", xaxis_range=[0, 1], yaxis_range=[0, 1.03])
        for number, run in scored:
            result = run.coco["segm"]
            figure.add_scatter(
                x=result.recall_thresholds,
                y=result.precision[level],
                mode="lines",
                line={"color": color_of(number), "width": 2, "shape": "vh"},
                name=plain(run.label),
                hovertemplate=f"{plain(run.label)}<br>recall %{{x:.2f}}: precision %{{y:.3f}}"
                "<extra></extra>",
            )
        caption = (
            "Precision (the largest at that recall or more) at 101 levels of recall, detections of "
            f"all images ranked by score and matched at IoU ≥ {text}. The area under the curve is "
            f"AP{round(100 * float(text))}."
        )
        plots.append(Plot(f"pr-{level}", f"IoU {text}", caption, figure))
    return plots


def box_plots(runs: Sequence[RunReport]) -> list[Plot]:
    """Draw the distribution over images of the measures of ``BOXES``, a box per run."""
    plots = []
    for name, title in BOXES.items():
        figure = new_figure("", f"{title} (%)", showlegend=False)
        for number, run in enumerate(runs):
            _add_box(figure, run, name, number)
        caption = (
            f"{title} of each of {len(runs[0].images)} images. Box: quartiles, median; whiskers: "
            "the last image within 1.5 of the box's height; dashed: mean; points: all images."
        )
        plots.append(Plot(f"box-{name.lower().replace('_', '-')}", title, caption, figure, 330))
    return plots


def _add_box(figure, run: RunReport, name: str, number: int) -> None:
    values = run.image_values(name)
    defined = np.isfinite(values)
    if not defined.any():
        return
    shown = values[defined]
    q1, median, q3 = np.percentile(shown, [25, 50, 75])
    reach = 1.5 * (q3 - q1)
    names = [
        plain(image.file_name) for image, keep in zip(run.images, defined, strict=True) if keep
    ]
    figure.add_box(
        x=[plain(run.label)],
        q1=[q1],
        median=[median],
        q3=[q3],
        mean=[shown.mean()],
        lowerfence=[shown[shown >= q1 - reach].min()],
        upperfence=[shown[shown <= q3 + reach].max()],
        y=[shown.tolist()],
        boxpoints="all",
        jitter=0.6,
        pointpos=0,
        text=[names],
        hovertemplate="%{text}: %{y:.2f}<extra></extra>",
        name=plain(run.label),
        line={"color": color_of(number), "width": 2},
        fillcolor=transparent(color_of(number), 0.15),
        marker={"symbol": symbol_of(number), "size": 5, "opacity": 0.6, "color": color_of(number)},
    )


def look_plots(groups: Sequence[LookGroup], runs: Sequence[RunReport], note: str) -> list[Plot]:
    """Draw the DSB score and the AJI of each look."""
    plots = []
    for name, title in {"DSB_score": "DSB score", "AJI_image_mean": "AJI"}.items():
        figure = new_figure("", f"{title} (%)", yaxis_range=[0, 100])
        shifts = _shifts(len(runs))
        for number, run in enumerate(runs):
            found = [group.estimates[number][name] for group in groups]
            add_points(figure, np.arange(len(groups)) + shifts[number], found, run.label, number)
        _name_places(figure, [f"{plain(group.look)}<br>n = {group.images}" for group in groups])
        caption = f"Mean over the n images of each look; one image has no interval. {note}"
        plots.append(Plot(f"look-{title.split()[0].lower()}", f"{title} by look", caption, figure))
    return plots


def size_plots(bins: Sequence[SizeBin], runs: Sequence[RunReport], note: str) -> list[Plot]:
    """Draw recall by the size of true objects, and precision by that of predicted ones."""
    contents = {
        "recall_50": ("Recall by size", "recall (%)", "True objects that are matched at IoU ≥ .5"),
        "precision_50": (
            "Precision by size",
            "precision (%)",
            "Predicted objects, binned by their own area, that are matched at IoU ≥ .5",
        ),
    }
    plots = []
    for key, (title, axis, caption) in contents.items():
        figure = new_figure("area (px)", axis, yaxis_range=[0, 103])
        shifts = _shifts(len(runs))
        for number, run in enumerate(runs):
            estimates = [of_size.estimates[number][key] for of_size in bins]
            add_points(figure, np.arange(len(bins)) + shifts[number], estimates, run.label, number)
        texts = [_short_areas(of_size) for of_size in bins]
        _name_places(figure, texts)
        objects = sum(of_size.objects for of_size in bins)
        caption = f"{caption}. The bins hold a quarter of the {objects} true objects each. {note}"
        plots.append(Plot(key.replace("_50", "-by-size"), title, caption, figure))
    return plots


def score_plot(runs: Sequence[RunReport], rows: Sequence[int]) -> Plot:
    """Draw the DSB score of every image, in the order ``rows``."""
    figure = new_figure("images, by the score of the first run", "DSB score (%)")
    for number, run in enumerate(runs):
        values = run.image_values("DSB_score")[rows]
        figure.add_scatter(
            x=np.arange(1, len(rows) + 1),
            y=values,
            mode="markers",
            marker={"symbol": symbol_of(number), "size": 7, "color": color_of(number)},
            text=[plain(run.images[row].file_name) for row in rows],
            name=plain(run.label),
            hovertemplate=f"{plain(run.label)}<br>%{{text}}: %{{y:.2f}}<extra></extra>",
        )
    figure.update_layout(showlegend=len(runs) > 1)
    caption = f"Each of {len(rows)} images; hover over a point for the name of its file."
    return Plot("scores", "DSB score of every image", caption, figure, 320)


def count_plots(runs: Sequence[RunReport]) -> list[Plot]:
    """Draw the agreement of the numbers of objects: against each other, and Bland-Altman."""
    true, predicted = _object_counts(runs)
    largest = max(1, true.max(), predicted.max())
    scatter = new_figure("true objects", "predicted objects")
    scatter.add_scatter(
        x=[0, largest],
        y=[0, largest],
        mode="lines",
        line={"color": NEUTRAL, "dash": "dash", "width": 1.5},
        name="equal",
        hoverinfo="skip",
    )
    bland = new_figure("mean of both numbers", "predicted − true")
    bland.add_hline(y=0, line={"color": NEUTRAL, "dash": "dash", "width": 1.5})
    limits = []
    for number, run in enumerate(runs):
        names = [plain(image.file_name) for image in run.images]
        difference = predicted[number] - true
        _add_counts(scatter, true, predicted[number], run.label, number, names)
        _add_counts(bland, (true + predicted[number]) / 2, difference, run.label, number, names)
        if len(true) > 1:
            bias, spread = difference.mean(), 1.96 * difference.std(ddof=1)
            low, high = bias - spread, bias + spread
            for y, dash in ((bias, "solid"), (low, "dot"), (high, "dot")):
                bland.add_hline(y=y, line={"color": color_of(number), "dash": dash, "width": 1.5})
            limits.append(f"{run.label} {_signed(bias)} [{_signed(low)}, {_signed(high)}]")
    images = f"{len(true)} images; hover over a point for the name of its file."
    agreement = (
        "Difference against mean of both numbers (Bland and Altman, Lancet 327, 1986); solid: mean "
        "difference, dotted: limits of agreement, 1.96 standard deviations around it: "
    )
    return [
        Plot("counts", "Predicted against true number", f"Objects in each of {images}", scatter),
        Plot("agreement", "Agreement", f"{agreement}{'; '.join(limits)}. {images}", bland),
    ]


def _object_counts(runs: Sequence[RunReport]) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of true objects (N,) and of predicted ones (runs, N)."""
    true = np.array([len(overlap.true_areas) for overlap in runs[0].results.overlaps])
    predicted = [[len(overlap.pred_areas) for overlap in run.results.overlaps] for run in runs]
    return true, np.array(predicted)


def _add_counts(figure, x, y, label: str, number: int, names: list[str]) -> None:
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers",
        marker={"symbol": symbol_of(number), "size": 8, "color": color_of(number), "opacity": 0.75},
        text=names,
        name=plain(label),
        hovertemplate=f"{plain(label)}<br>%{{text}}: %{{x}}, %{{y}}<extra></extra>",
    )


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _shifts(runs: int) -> np.ndarray:
    """Return where the runs' points lie beside a category's place."""
    return (np.arange(runs) - (runs - 1) / 2) * min(0.18, 0.7 / runs)


def _name_places(figure, texts: list[str]) -> None:
    places = list(range(len(texts)))
    figure.update_layout(
        xaxis={"tickvals": places, "ticktext": texts, "range": [-0.6, len(texts) - 0.4]}
    )


def _short_areas(of_size: SizeBin) -> str:
    if np.isinf(of_size.high):
        return f"> {of_size.low:g}"
    return f"{int(of_size.low) + 1}–{int(of_size.high)}" if of_size.low else f"≤ {of_size.high:g}"
