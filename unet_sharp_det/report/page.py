"""The report as one HTML file that needs neither network nor JavaScript."""

import datetime
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from ..errors import ConfigError, counted
from ..evaluation.classes import CLASS_MEASURES, ClassResults
from ..evaluation.instances.results import resample
from ..evaluation.record import AP_SAMPLES, SAMPLES
from ..files import write_text
from . import figures, volumes
from .breakdown import LOOK_MEASURES, OBJECT_MEASURES, break_down, by_contact, by_look, by_size
from .collect import Method, collect_methods, looks_of
from .comparison import HEADLINE, Comparison
from .curves import training_plots
from .drawing import Plot, add_legend, color_of
from .environment import config_differences, fingerprint, report_environment
from .estimates import number
from .grid import choose_images, grid_plot
from .names import words_of
from .overlays import OUTCOME_COLORS, draw_images
from .pruning import pruning_plot
from .verdict import judge
from .volumes import VolumeRun

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(
    runs: Sequence,
    output,
    *,
    labels: Sequence[str] | None = None,
    dataset: str | None = None,
    worst: int = 10,
    grid: Sequence[str] = ("4",),
    pruning: Sequence = (),
    samples: int = SAMPLES,
    ap_samples: int = AP_SAMPLES,
    title: str | None = None,
    note: str | None = None,
    figures_folder: str | None = None,
    full: bool = False,
) -> None:
    """Compare runs on the same images in one HTML file.

    Its first screen says what they are worth; everything else is folded below. Runs of the same
    label are seeds of one method, whose mean is shown.

    Args:
        runs: OUTPUT_DIRs of trainings or evaluations, or folders of ``evaluate_files``; differences
            are to the first method.
        output: the HTML file, written atomically.
        labels: names of the runs; None: what differs in their folders, without the seed.
        dataset: of runs that were evaluated on several data sets, that one.
        worst: number of images to draw, those of the best method's lowest DSB score, or Dice of
            volumes; none of objects of volumes.
        grid: images whose pixels are drawn for all runs side by side, see ``choose_images``; none
            of volumes.
        pruning: JSON files of benchmarks of pruned networks, see ``pruning_plot``.
        samples: number of bootstrap samples.
        ap_samples: COCO's AP, which takes longer, has the first of them.
        title: of the page; None: the data set and the runs.
        note: below the verdict.
        figures_folder: folder that each figure is written to as PNG and SVG too.
        full: whether the sections begin unfolded, as for printing.

    Raises:
        UserError: see ``collect_methods``; or ``output`` cannot be a file; or ``worst``,
            ``samples`` or ``ap_samples`` is too small; or an image or a file of ``pruning`` cannot
            be drawn.
    """
    _check_output(output)
    least = {"--worst": (worst, 0), "--samples": (samples, 1), "--ap-samples": (ap_samples, 1)}
    for option, (value, lowest) in least.items():
        if value < lowest:
            raise ConfigError(f"{option} must be {lowest} or more, not {value}.")
    pruned = [pruning_plot(path, f"pruning-{i}") for i, path in enumerate(pruning)]
    methods = collect_methods(runs, labels, dataset)
    first_seeds = [method.seeds[0] for method in methods]
    of_volumes = isinstance(first_seeds[0], VolumeRun)
    are_flat = not of_volumes and all(len(image.shape) == 2 for image in methods[0].images)
    rows = choose_images(first_seeds, grid) if are_flat else []
    kind = _VolumeAnalysis if of_volumes else _ObjectAnalysis
    analysis = kind(methods, samples, min(samples, ap_samples))
    grids = [grid_plot(first_seeds, rows)] if rows else []
    plots = analysis.plots() | {"grid": grids, "pruning": pruned}
    can_draw = of_volumes or are_flat
    write_text(output, _render(analysis, plots, worst if can_draw else 0, title, note, full))
    if figures_folder is not None:
        for plot in itertools.chain.from_iterable(plots.values()):
            plot.save(figures_folder)


def _check_output(output) -> None:
    if os.path.isdir(output):
        example = Path(output) / "report.html"
        raise ConfigError(f"--output: {output} is a folder, give a file, e.g. {example}.")
    for folder in Path(output).parents:
        if os.path.exists(folder) and not os.path.isdir(folder):
            raise ConfigError(f"--output: {output} lies below {folder}, which is a file.")


class _Analysis:
    """What tables and figures show of methods."""

    of_volumes, unit = False, "image"
    headline, boxes = HEADLINE, figures.BOXES
    score = "DSB_score"  # By which methods and images are the best or the worst.

    def __init__(self, methods: Sequence[Method], samples: int, ap_samples: int):
        self.methods, self.samples, self.ap_samples = methods, samples, ap_samples
        self.runs = [run for method in methods for run in method.seeds]
        self.comparison = Comparison(methods, samples, ap_samples, self.headline)
        seeds = " and the seeds" if len(self.runs) > len(methods) else ""
        self.note = f"One {self.unit}: there are no intervals."
        if len(methods[0].images) > 1:
            self.note = f"95 % intervals over the {self.unit}s{seeds}."
        self.breakdowns = self._break_down()
        self.verdict = judge(self.comparison, self.breakdowns, self.score, self.unit)
        self.best = self.methods[self.verdict.best]
        # Of equal images that with more objects is worse, and better: an empty one says little.
        values, objects = self.best.image_values(self.score), self._objects()
        self.order = np.lexsort((-objects, values))
        self.best_row = int(np.lexsort((objects, np.nan_to_num(values), objects > 0))[-1])

    def plots(self) -> dict[str, list[Plot]]:
        """Draw the figures of the sections."""
        methods = self.methods
        plots = {"boxes": figures.box_plots(methods, self.boxes), "differences": []}
        if len(methods) > 1:
            plots["differences"] = [figures.difference_plot(self.comparison, self.note)]
        plots |= {"training": training_plots(methods), **self._plots()}
        for section, several in plots.items():
            for plot in several if section != "boxes" else ():  # Their axis names the methods.
                add_legend(plot)
        return plots


class _ObjectAnalysis(_Analysis):
    """Of objects in images."""

    def _break_down(self) -> list:
        self.looks = looks_of(self.runs)
        if not self._objects().any():
            return []
        first, weights = self.runs[0], resample(len(self.looks), self.samples)
        groupings = by_size(first.results.overlaps), by_contact(first), by_look(self.looks)
        return [break_down(self.methods, each, weights) for each in groupings]

    def _objects(self) -> np.ndarray:
        return np.array([len(each.true_areas) for each in self.runs[0].results.overlaps])

    def _plots(self) -> dict[str, list[Plot]]:
        return {
            "thresholds": figures.threshold_plots(self.comparison, self.note),
            "precision_recall": figures.precision_recall_plots(self.methods),
            "groups": figures.group_plots(self.breakdowns, self.methods, self.note),
            "counts": figures.count_plots(self.methods),
        }

    def draw(self, methods: Sequence[Method], rows: Sequence[int]) -> list[dict]:
        """Draw images with what methods got right and wrong."""
        return draw_images(methods, self.looks, rows)

    def shown(self) -> dict:
        """Return what the templates of this kind show."""
        return {
            "objects": self.runs[0].results.object_counts[0],
            "options_differ": len({run.record.options for run in self.runs}) > 1,
            "classes": [
                ClassResults.of(run.truth, run.predictions, run.record.options) for run in self.runs
            ],
            "class_measures": CLASS_MEASURES,
            "group_measures": {**dict.fromkeys(LOOK_MEASURES, ""), **OBJECT_MEASURES},
        }


class _VolumeAnalysis(_Analysis):
    """Of labels in volumes."""

    of_volumes, unit = True, "volume"
    headline, boxes = volumes.HEADLINE, volumes.HEADLINE
    score = "Dice_image_mean"

    def _break_down(self) -> list:
        return []

    def _objects(self) -> np.ndarray:
        return np.ones(len(self.methods[0].images))

    def _plots(self) -> dict[str, list[Plot]]:
        return {}

    def draw(self, methods: Sequence[Method], rows: Sequence[int]) -> list[dict]:
        """Return the slices that the evaluation drew."""
        return volumes.draw_volumes([method.seeds[0] for method in methods], rows)

    def shown(self) -> dict:
        """Return what the templates of this kind show."""
        results = self.runs[0].results
        return {
            "classes": [],
            "channels": results.channels,
            "case_measures": list(results.cases),
            "case_rows": volumes.case_rows(self.runs),
        }


def _render(
    analysis: _Analysis,
    plots: dict[str, list[Plot]],
    worst: int,
    title: str | None,
    note: str | None,
    full: bool,
) -> str:
    methods = analysis.methods
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"counted": counted, "fingerprint": fingerprint, "number": number, "words": words_of}
    environment.filters |= filters
    extremes = {"Best": analysis.best_row, "Worst": int(analysis.order[0])}
    if len(set(extremes.values())) == 1:
        extremes = {"Only": analysis.best_row}
    rows = analysis.order[:worst]
    drawn = analysis.draw([analysis.best], list(extremes.values())) if worst else []
    return environment.get_template("report.html.j2").render(
        title=title or f"{analysis.runs[0].record.dataset}: {', '.join(m.label for m in methods)}",
        note=note,
        created=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        methods=[
            {"label": each.label, "color": color_of(place), "seeds": len(each.seeds)}
            for place, each in enumerate(methods)
        ],
        runs=analysis.runs,
        images=len(methods[0].images),
        analysis=analysis,
        full=full,
        extremes=list(zip(extremes, drawn, strict=False)),
        worst=analysis.draw(methods, rows),
        outcome_colors=OUTCOME_COLORS,
        plots=plots,
        config_differences=config_differences([run.training.config for run in analysis.runs]),
        environment=report_environment(),
        css=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        **analysis.shown(),
    )
