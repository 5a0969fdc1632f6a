"""The figures of a report on trainings."""

import itertools
from collections.abc import Sequence

import plotly.graph_objects as go

from .collect import RunReport
from .plotting import COLORS, DASHES, Plot, color_of, new_figure, plain

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
    return [plot for plot in plots if plot.figure.data]


def _loss_plot(trained) -> Plot:
    figure = new_figure("iteration", "loss")
    for (number, run), (name, what) in itertools.product(
        trained, {"total_loss": "training", "validation/total_loss": "validation"}.items()
    ):
        _add(figure, run, name, f"{run.label}, {what}", color_of(number), what == "validation")
    caption = (
        "Sum of all losses: of the training batches (line; median of the last 20 iterations), and, "
        "where it was computed, of the validation images (dashed)."
    )
    return Plot("loss", "Loss", caption, figure)


def _score_plot(trained) -> Plot:
    figure = new_figure("iteration", "percent")
    for number, run in trained:
        for names, dash in zip(_SCORES, DASHES, strict=False):
            name = next((name for name in names if name in run.training.curves), None)
            if name:
                label = f"{run.label}, {name.split('/')[-1]}"
                _add(figure, run, name, label, color_of(number), True, dash)
    caption = "Measures of the validation images, each time that they were evaluated."
    return Plot("validation", "Measures on validation data", caption, figure)


def _rate_plot(trained) -> Plot:
    figure = new_figure("iteration", "learning rate")
    for number, run in trained:
        _add(figure, run, "lr", run.label, color_of(number))
    figure.update_layout(yaxis={"exponentformat": "e", "rangemode": "tozero"}, showlegend=True)
    caption = "Learning rate of the first group of parameters."
    return Plot("rate", "Learning rate", caption, figure)


def _parts_plot(number: int, run: RunReport) -> Plot:
    figure = new_figure("iteration", "loss")
    for index, name in enumerate(run.training.losses):
        dash = DASHES[index // len(COLORS) % len(DASHES)]
        _add(figure, run, name, name, COLORS[index % len(COLORS)], dash=dash)
    caption = "The parts of the training loss (median of the last 20 iterations)."
    return Plot(f"loss-parts-{number}", f"Parts of the loss, {run.label}", caption, figure)


def _add(
    figure: go.Figure,
    run: RunReport,
    name: str,
    label: str,
    color: str,
    with_markers: bool = False,
    dash: str | None = None,
) -> None:
    if name not in run.training.curves:
        return
    iterations, values = run.training.curves[name]
    figure.add_scatter(
        x=iterations,
        y=values,
        mode="lines+markers" if with_markers else "lines",
        line={"color": color, "width": 2, "dash": dash or ("dash" if with_markers else "solid")},
        name=plain(label),
        hovertemplate=f"{plain(label)}<br>iteration %{{x}}: %{{y:.4g}}<extra></extra>",
    )
