"""Size, speed and quality of networks pruned to L_1, L_2, ... (UNet#, Figure 7)."""

from pathlib import Path

from ..errors import UserError
from ..files import read_json
from .drawing import Plot, new_figure

_BARS = {
    "params": ("parameters (M)", "#56B4E9", 1e-6),
    "images_per_s": ("images / s", "#E69F00", 1),
    "quality": ("{measure} (%)", "#D55E00", 1),
}


def pruning_plot(path, key: str = "pruning") -> Plot:
    """Draw bars of each number over the levels of a pruned network.

    Args:
        path: JSON that ``benchmarks/pruning.py`` wrote: "title" and "machine", and
            "measure" (of "quality"), and "levels", a list of dicts with "level", "params",
            "images_per_s" and "quality" (percent or None).
        key: of the plot.

    Raises:
        UserError: the file is missing, or none of the benchmark.
    """
    content = read_json(path, dict, "Write it by benchmarks/pruning.py.")
    levels = content.get("levels")
    if not levels or not all({"level", *_BARS} <= set(each) for each in levels):
        raise UserError(f"{path}: has no 'levels' of a benchmark. Benchmark the pruning again.")
    figure, measure = new_figure(8.4, 2.8), str(content.get("measure", "quality"))
    names = [f"L{level['level']}" for level in levels]
    for ax, (number, bar) in zip(figure.subplots(1, len(_BARS)), _BARS.items(), strict=True):
        title, color, scale = bar
        values = [level[number] for level in levels]
        heights = [scale * (value or 0) for value in values]
        texts = ["n/a" if v is None else f"{scale * v:.2f}" for v in values]
        bars = ax.bar(names, heights, color=color, width=0.7)
        ax.bar_label(bars, texts, fontsize="small", padding=2)
        ax.set_title(title.format(measure=measure), fontsize="medium")
        ax.set_ylim(0, 1.12 * max(heights) or 1)
        ax.spines[["top", "right"]].set_visible(False)
    machine = content.get("machine")
    caption = f"Levels of a pruned network, measured on {machine}." if machine else ""
    return Plot(key, str(content.get("title", Path(path).stem)), caption, figure)
