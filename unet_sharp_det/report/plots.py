"""The figures of the UNet# paper: values per image (5), predictions (6), and pruning (7).

Figures are matplotlib's ``Figure`` without pyplot, so that no display is needed or opened.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..data.catalog import check_registered
from ..errors import DatasetError, UserError, look_up_option
from ..evaluation.instances.overlap import Overlap
from ..evaluation.readers.run_results import RunResults, find_runs, values_of_runs
from ..files import atomic_path, read_json
from ..images import read_image

FORMATS = (".png", ".pdf", ".svg")

# Of Okabe and Ito's palette, which colour-blind readers can tell apart, also in lightness.
BLUE, ORANGE, SKY, YELLOW = "#0072B2", "#D55E00", "#56B4E9", "#F0E442"
PALE = "#BFE1F6"
OUTCOME_COLORS = {
    "true positive": (86, 180, 233),
    "false positive": (213, 94, 0),
    "false negative": (240, 228, 66),
}
IGNORED_COLOR = (128, 128, 128)

_DPI = 150
_BRIGHTEST = 90

_PRUNING_BARS = {
    "params": ("parameters (M)", SKY),
    "images_per_s": ("images / s", YELLOW),
    "iou": ("IoU (%)", ORANGE),
}


@dataclass(frozen=True)
class GridRow:
    """One image of the grid of predictions.

    Attributes:
        title: names the image.
        image: uint8 (H, W, 3) in RGB.
        truth: bool (H, W).
        valid: bool (H, W), the pixels that count.
        predictions: bool (H, W) of each run.
    """

    title: str
    image: np.ndarray
    truth: np.ndarray
    valid: np.ndarray
    predictions: list[np.ndarray]


def plot_boxplots(
    runs: Sequence,
    output,
    *,
    labels: Sequence[str] | None = None,
    metric: str = "IoU",
    channel: str | None = None,
    dataset: str | None = None,
) -> tuple[Figure, str]:
    """Draw the distribution of a metric over the images, a box per run (UNet#, Figure 5).

    Args:
        runs: OUTPUT_DIRs of evaluated runs.
        output: a path that ends in one of ``FORMATS``.
        labels: a name for each run. None: their folders' names.
        metric: ``IoU`` or ``Dice``.
        channel: of semantic runs. None: the mean over the channels of an image.
        dataset: data set to show of runs that were evaluated on several.

    Returns:
        the figure, and its numbers as a Markdown table.

    Raises:
        UserError: if a file is missing or malformed, or the runs have different images.
    """
    check_format(output)
    found = find_runs(runs, labels, dataset)
    values = [list(of_run.values()) for of_run in values_of_runs(found, metric, channel)]
    names = [run.label for run in found]
    figure = boxplot_figure(names, values, metric)
    save_figure(figure, output)
    return figure, boxplot_table(names, values, metric)


def plot_grid(
    runs: Sequence,
    dataset: str,
    output,
    *,
    images: Sequence[str] = ("4",),
    labels: Sequence[str] | None = None,
    channel: str | None = None,
) -> Figure:
    """Draw images, their ground truth, and what runs get right and wrong (UNet#, Figure 6).

    Args:
        runs: OUTPUT_DIRs of evaluated runs.
        dataset: name of the registered data set that they were evaluated on.
        output: a path that ends in one of ``FORMATS``.
        images: one number N, or image ids or stems of file names. N: the images where the runs'
            IoU differs most; of a single run, those with the least IoU.
        labels: a name for each run. None: their folders' names.
        channel: of semantic runs. None: the first one.

    Raises:
        UserError: if a file is missing or malformed, an image is unknown, or the runs were
            evaluated on another data set.
    """
    check_format(output)
    check_registered([dataset], "--dataset")
    found = find_runs(runs, labels, dataset)
    judge = next((run for run in found if run.is_semantic), found[0])
    if judge.is_semantic and channel is None:
        channel = next(iter(judge.labels()[1]))
    records = {str(record["image_id"]): record for record in DatasetCatalog.get(dataset)}
    _check_same_images(found, records, dataset)
    values = values_of_runs(found, "IoU", channel)
    _check_known(values[0], records, dataset)
    chosen = choose_images(images, values, records)
    predictions = [(run, run.predictions(channel)) for run in found]
    rows = [
        _grid_row(image_id, records[image_id], predictions, judge, channel) for image_id in chosen
    ]
    figure = grid_figure(rows, [run.label for run in found])
    save_figure(figure, output)
    return figure


def plot_pruning(files: Sequence, output) -> Figure:
    """Draw size, speed and quality of pruned models (UNet#, Figure 7), a panel per file.

    Args:
        files: JSON files that ``tools/benchmark.py pruning`` wrote.
        output: a path that ends in one of ``FORMATS``.

    Raises:
        UserError: if a file is missing or malformed.
    """
    check_format(output)
    figure = pruning_figure([read_pruning(path) for path in files])
    save_figure(figure, output)
    return figure


def boxplot_figure(labels: Sequence[str], values: Sequence[Sequence[float]], metric: str) -> Figure:
    """Draw a box per run: quartiles, whiskers of up to 1.5 of their distance, outliers, mean.

    Args:
        labels: names of the runs.
        values: of each run, the metric of each image in percent.
        metric: its name.
    """
    figure = Figure(figsize=(max(4.5, 1.5 + 1.3 * len(labels)), 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.boxplot(
        values,
        widths=0.55,
        patch_artist=True,
        showmeans=True,
        boxprops={"facecolor": PALE},
        medianprops={"color": BLUE, "linewidth": 2},
        meanprops={"marker": "D", "markerfacecolor": ORANGE, "markeredgecolor": "black"},
        flierprops={"marker": "o", "markersize": 3.5, "alpha": 0.6},
    )
    axes.set_xticks(range(1, len(labels) + 1), [textwrap.fill(label, 16) for label in labels])
    axes.set_ylabel(f"{metric} per image (%)")
    axes.set_title(f"{len(values[0])} images", fontsize="medium")
    axes.grid(axis="y", color="0.85")
    axes.set_axisbelow(True)
    mean = {"marker": "D", "color": ORANGE, "markeredgecolor": "black", "linestyle": "none"}
    handles = [Line2D([], [], color=BLUE, linewidth=2, label="median")]
    handles.append(Line2D([], [], label="mean", **mean))
    axes.legend(handles=handles, loc="best", fontsize="small")
    return figure


def boxplot_table(labels: Sequence[str], values: Sequence[Sequence[float]], metric: str) -> str:
    """Format the numbers of :func:`boxplot_figure` as a Markdown table, a row per run."""
    lines = [f"| {metric} in percent | images | median | mean | lower quartile | upper quartile |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for label, of_run in zip(labels, values, strict=True):
        lower, median, upper = np.percentile(of_run, [25, 50, 75])
        numbers = " | ".join(f"{x:.2f}" for x in (median, np.mean(of_run), lower, upper))
        lines.append(f"| {label} | {len(of_run)} | {numbers} |")
    return "\n".join(lines)


def choose_images(
    images: Sequence[str], values: Sequence[dict[str, float]], records: dict[str, dict]
) -> list[str]:
    """Return the ids of the images that :func:`plot_grid` draws.

    Args:
        images: its argument of that name.
        values: IoU by image id, of each run.
        records: dataset dicts by image id.
    """
    if len(images) == 1 and images[0].isdecimal():
        spread = {
            image_id: max(of_all) - min(of_all) if len(values) > 1 else -of_all[0]
            for image_id in values[0]
            for of_all in [[of_run[image_id] for of_run in values]]
        }
        count = int(images[0])
        if count < 1:
            raise UserError("--images: the number of images must be 1 or more.")
        return sorted(spread, key=spread.get, reverse=True)[:count]
    by_stem = {Path(records[image_id]["file_name"]).stem: image_id for image_id in values[0]}
    known = [*values[0], *by_stem]
    chosen = [look_up_option(name, known, "--images") for name in images]
    return [name if name in values[0] else by_stem[name] for name in chosen]


def outcome_picture(row: GridRow, prediction: np.ndarray) -> np.ndarray:
    """Colour true and false positives, false negatives and ignored pixels on the dimmed image.

    It is dimmed to the same brightest pixel whatever the exposure.
    """
    gray = row.image.mean(axis=2, keepdims=True)
    picture = np.repeat(gray * (_BRIGHTEST / max(gray.max(), 1)), 3, axis=2).astype(np.uint8)
    sets = (prediction & row.truth, prediction & ~row.truth, ~prediction & row.truth)
    for pixels, color in zip(sets, OUTCOME_COLORS.values(), strict=True):
        picture[pixels] = color
    picture[~row.valid] = IGNORED_COLOR
    return picture


def truth_picture(row: GridRow) -> np.ndarray:
    """Draw the ground truth in white on black, ignored pixels in gray."""
    picture = np.repeat(row.truth[:, :, None] * np.uint8(255), 3, axis=2)
    picture[~row.valid] = IGNORED_COLOR
    return picture


def grid_figure(rows: Sequence[GridRow], labels: Sequence[str]) -> Figure:
    """Draw a row per image: image, ground truth, and the outcome of each run with its IoU."""
    columns = ["image", "ground truth", *labels]
    heights = [max(0.4, 2.2 * row.image.shape[0] / row.image.shape[1]) + 0.35 for row in rows]
    size = (2.2 * len(columns), sum(heights) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    body, foot = figure.subfigures(2, 1, height_ratios=[sum(heights) + 0.3, 0.4])
    grid = body.subplots(len(rows), len(columns), squeeze=False, height_ratios=heights)
    for axes, row in zip(grid, rows, strict=True):
        pictures = [row.image, truth_picture(row)]
        pictures += [outcome_picture(row, prediction) for prediction in row.predictions]
        for ax, picture in zip(axes, pictures, strict=True):
            _show(ax, picture)
        axes[0].set_xlabel(row.title if len(row.title) <= 22 else f"{row.title[:20]}...")
        for ax, prediction in zip(axes[2:], row.predictions, strict=True):
            iou = 100 * Overlap.count(prediction, row.truth, row.valid).iou
            ax.set_xlabel(f"IoU {iou:.1f} %")
    for ax, label in zip(grid[0], columns, strict=True):
        ax.set_title(textwrap.fill(label, 22), fontsize="medium")
    _outcome_legend(foot, any(not row.valid.all() for row in rows))
    return figure


def read_pruning(path) -> dict:
    """Read a result of ``tools/benchmark.py pruning``.

    Returns:
        dict: "title" and "machine", and "levels": a list of dicts with "level", "params",
        "images_per_s" and "iou" (percent or None).

    Raises:
        UserError: if the file is missing or malformed.
    """
    remedy = f"Write it by: python tools/benchmark.py pruning (--help), into {path}"
    content = read_json(path, dict, remedy)
    levels = content.get("levels")
    if not isinstance(levels, list) or not levels:
        raise UserError(f"{path}: 'levels' must be a list of one or more levels. {remedy}")
    for level in levels:
        for key in ("level", *_PRUNING_BARS):
            value = level.get(key, "") if isinstance(level, dict) else ""
            if not isinstance(value, int | float) and not (key == "iou" and value is None):
                raise UserError(f"{path}: '{key}' of a level is no number: {level}. {remedy}")
    return {"title": Path(path).stem, "machine": "", **content}


def pruning_figure(panels: Sequence[dict]) -> Figure:
    """Draw a panel per result of :func:`read_pruning`: bars of each number over the levels."""
    most = max(len(panel["levels"]) for panel in panels)
    size = (3 * max(2.6, 1 + 0.5 * most), 3.1 * len(panels))
    figure = Figure(figsize=size, layout="constrained")
    parts = np.atleast_1d(figure.subfigures(len(panels), 1))
    for part, panel in zip(parts, panels, strict=True):
        machine = f" ({panel['machine']})" if panel["machine"] else ""
        title = textwrap.fill(f"{panel['title']}{machine}", int(9 * size[0]))
        part.suptitle(title, fontsize="medium", fontweight="bold")
        for ax, key in zip(part.subplots(1, len(_PRUNING_BARS)), _PRUNING_BARS, strict=True):
            _draw_bars(ax, panel["levels"], key)
    return figure


def check_format(output) -> None:
    """Check that a path ends in one of ``FORMATS``."""
    look_up_option(Path(output).suffix, FORMATS, f"--output {output}: the format")


def save_figure(figure: Figure, output) -> None:
    """Write a figure in the format of the path's suffix, atomically."""
    with atomic_path(output) as temporary:
        figure.savefig(temporary, dpi=_DPI)


def _check_same_images(runs: Sequence[RunResults], records: dict[str, dict], dataset: str) -> None:
    names = {image_id: Path(record["file_name"]).name for image_id, record in records.items()}
    for run in runs:
        remedy = f"give --dataset the one it was evaluated on, or evaluate it on {dataset}."
        run.check_same_images(names, dataset, remedy)


def _check_known(values: dict[str, float], records: dict[str, dict], dataset: str) -> None:
    unknown = [image_id for image_id in values if image_id not in records]
    if unknown:
        raise DatasetError(
            f"--dataset {dataset}: has no image {unknown[0]} ({len(unknown)} unknown of "
            f"{len(values)}), which the runs were evaluated on: name their data set."
        )


def _grid_row(
    image_id: str,
    record: dict,
    predictions: list[tuple[RunResults, dict[str, list[dict]]]],
    judge: RunResults,
    channel: str | None,
) -> GridRow:
    image = read_image(record["file_name"], "RGB")
    truth, valid = judge.truth(record, channel)
    masks = [run.predicted(entries.get(image_id, []), record) for run, entries in predictions]
    stem = Path(record["file_name"]).stem
    title = stem if stem == image_id else f"{image_id}: {stem}"
    return GridRow(title, image, truth, valid, masks)


def _show(ax: Axes, picture: np.ndarray) -> None:
    ax.imshow(picture)
    ax.set_xticks([])
    ax.set_yticks([])


def _outcome_legend(part: SubFigure, with_ignored: bool) -> None:
    colors = dict(OUTCOME_COLORS)
    if with_ignored:
        colors["ignored"] = IGNORED_COLOR
    handles = [
        Patch(facecolor=np.array(color) / 255, edgecolor="black", linewidth=0.5, label=name)
        for name, color in colors.items()
    ]
    part.legend(handles=handles, loc="center", ncol=len(handles), frameon=False)


def _draw_bars(ax: Axes, levels: list[dict], key: str) -> None:
    name, color = _PRUNING_BARS[key]
    scale = 1e-6 if key == "params" else 1
    heights = [scale * (level[key] or 0) for level in levels]
    texts = [
        "n/a" if level[key] is None else f"{height:.2f}"
        for level, height in zip(levels, heights, strict=True)
    ]
    bars = ax.bar([f"L{level['level']}" for level in levels], heights, color=color, width=0.7)
    ax.bar_label(bars, texts, fontsize="small", padding=2)
    ax.set_title(name, fontsize="medium")
    if any(heights):
        ax.set_ylim(0, 1.12 * max(heights))
    else:
        ax.set_ylim(0, 1)
        ax.set_yticks([])
    ax.spines[["top", "right"]].set_visible(False)
