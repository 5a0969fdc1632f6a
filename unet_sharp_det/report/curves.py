"""The figures of a report on trainings."""

from collections.abc import Sequence

from .collect import RunReport
from .drawing import COLORS, DASHES, Plot, color_of, new_plot, plain

# Curves on validation data: the first of each line that a training has.
_SCORES = (
    ("instances/DSB_score",),
    ("segm/AP", "bbox/AP"),
    ("foreground/IoU_image_mean", "sem_seg/IoU_image_mean"),
)
_LOSS = (
    "Sum of all losses: of the training batches (line; median of the last 20 iterations), and, "
    "where it was computed, of the validation images (dashed)."
)
_SCORE = "Measures of the validation images, each time that they were evaluated."
_RATE = "Learning rate of the first group of parameters."
_PARTS = "The parts of the training loss (median of the last 20 iterations)."


def training_plots(runs: Sequence[RunReport]) -> list[Plot]:
    """Draw the losses, measures on validation data and learning rates of the runs that have any."""
    x = "iteration"
    loss = new_plot("loss", "Loss", _LOSS, x, "loss")
    scores = new_plot("validation", "Measures on validation data", _SCORE, x, "percent")
    rate = new_plot("rate", "Learning rate", _RATE, x, "learning rate")
    plots = [loss, scores, rate]
    for number, run in enumerate(runs):
        if not run.training or not run.training.curves:
            continue
        label, color, curves = run.label, color_of(number), run.training.curves
        _add(loss, run, "total_loss", f"{label}, training", color)
        name = "validation/total_loss"
        _add(loss, run, name, f"{label}, validation", color, "dashed", "o")
        for names, dash in zip(_SCORES, DASHES, strict=False):
            name = next((name for name in names if name in curves), names[0])
            _add(scores, run, name, f"{label}, {name.split('/')[-1]}", color, dash, "o")
        _add(rate, run, "lr", label, color)
        parts = new_plot(f"loss-parts-{number}", f"Parts of the loss, {label}", _PARTS, x, "loss")
        for index, name in enumerate(run.training.losses):
            dash = DASHES[index // len(COLORS) % len(DASHES)]
            _add(parts, run, name, name, COLORS[index % len(COLORS)], dash)
        plots.append(parts)
    rate.axes.set_ylim(bottom=0)
    return [plot for plot in plots if plot.axes.lines]


def _add(
    plot: Plot, run: RunReport, name: str, label: str, color: str, dash="solid", marker=None
) -> None:
    if name in run.training.curves:
        style = {"color": color, "linestyle": dash, "marker": marker, "markersize": 3.5}
        plot.axes.plot(*run.training.curves[name], label=plain(label), **style)
