"""The figures of a report on trainings."""

from collections.abc import Sequence

from .collect import Method
from .drawing import DASHES, Plot, color_of, new_plot, plain
from .names import words_of

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


def training_plots(methods: Sequence[Method]) -> list[Plot]:
    """Draw the losses and measures on validation data of the runs that have any."""
    loss = new_plot("loss", "Loss", _LOSS, "iteration", "loss")
    scores = new_plot("validation", "Measures on validation data", _SCORE, "iteration", "percent")
    for number, method in enumerate(methods):
        color = color_of(number)
        for place, run in enumerate(method.seeds):
            # Seeds look the same, and the legend names the method once.
            curves = run.training.curves
            label = "" if place else method.label
            _add(loss, curves, "total_loss", label and f"{label}, training", color)
            name = "validation/total_loss"
            _add(loss, curves, name, label and f"{label}, validation", color, "dashed", "o")
            for names, dash in zip(_SCORES, DASHES, strict=False):
                name = next((name for name in names if name in curves), names[0])
                words = label and f"{label}, {words_of(name.split('/')[-1], long=False)}"
                _add(scores, curves, name, words, color, dash, "o")
    return [plot for plot in (loss, scores) if plot.axes.lines]


def _add(
    plot: Plot, curves: dict, name: str, label: str, color: str, dash="solid", marker=None
) -> None:
    if name in curves:
        style = {"color": color, "linestyle": dash, "marker": marker, "markersize": 3.5}
        plot.axes.plot(*curves[name], label=plain(label) if label else None, **style)
