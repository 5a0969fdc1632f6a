"""The figures of a report on trainings."""

from collections.abc import Sequence

from .collect import RunReport
from .drawing import COLORS, DASHES, Plot, add_legend, color_of, new_plot, plain

# Curves on validation data: the first of each line that a training has.
_SCORES = (
    ("instances/DSB_score",),
    ("segm/AP", "bbox/AP"),
    ("foreground/IoU_image_mean", "sem_seg/IoU_image_mean"),
)


def training_plots(runs: Sequence[RunReport]) -> list[Plot]:
    """Draw the losses, measures on validation data and learning rates of the runs that have any."""
    trained = [(n, run) for n, run in enumerate(runs) if run.training and run.training.curves]
    if not trained:
        return []
    plots = [_loss_plot(trained), _score_plot(trained), _rate_plot(trained)]
    plots += [_parts_plot(number, run) for number, run in trained]
    plots = [plot for plot in plots if plot.axes.lines]
    for plot in plots:
        add_legend(plot)
    return plots


def _loss_plot(trained) -> Plot:
    caption = (
        "Sum of all losses: of the training batches (line; median of the last 20 iterations), and, "
        "where it was computed, of the validation images (dashed)."
    )
    plot = new_plot("loss", "Loss", caption, "iteration", "loss")
    for number, run in trained:
        color = color_of(number)
        _add(plot, run, "total_loss", f"{run.label}, training", color)
        label = f"{run.label}, validation"
        _add(plot, run, "validation/total_loss", label, color, "dashed", "o")
    return plot


def _score_plot(trained) -> Plot:
    caption = "Measures of the validation images, each time that they were evaluated."
    title = "Measures on validation data"
    plot = new_plot("validation", title, caption, "iteration", "percent")
    for number, run in trained:
        for names, dash in zip(_SCORES, DASHES, strict=False):
            name = next((name for name in names if name in run.training.curves), names[0])
            label = f"{run.label}, {name.split('/')[-1]}"
            _add(plot, run, name, label, color_of(number), dash, "o")
    return plot


def _rate_plot(trained) -> Plot:
    caption = "Learning rate of the first group of parameters."
    plot = new_plot("rate", "Learning rate", caption, "iteration", "learning rate")
    for number, run in trained:
        _add(plot, run, "lr", run.label, color_of(number))
    plot.axes.set_ylim(bottom=0)
    return plot


def _parts_plot(number: int, run: RunReport) -> Plot:
    caption = "The parts of the training loss (median of the last 20 iterations)."
    title = f"Parts of the loss, {run.label}"
    plot = new_plot(f"loss-parts-{number}", title, caption, "iteration", "loss")
    for index, name in enumerate(run.training.losses):
        dash = DASHES[index // len(COLORS) % len(DASHES)]
        _add(plot, run, name, name, COLORS[index % len(COLORS)], dash)
    return plot


def _add(
    plot: Plot, run: RunReport, name: str, label: str, color: str, dash="solid", marker=None
) -> None:
    if name in run.training.curves:
        style = {"color": color, "linestyle": dash, "marker": marker, "markersize": 3.5}
        plot.axes.plot(*run.training.curves[name], label=plain(label), **style)
