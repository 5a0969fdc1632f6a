"""The report as one HTML file that needs neither network nor JavaScript."""

import datetime
import itertools
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from ..errors import ConfigError
from ..evaluation.classes import CLASS_MEASURES, ClassResults
from ..evaluation.evaluate_files import AP_SAMPLES
from ..evaluation.instances.results import SAMPLES
from ..files import write_text
from . import figures, volumes
from .breakdown import SIZE_MEASURES, by_look, by_size, quartiles_of_area
from .collect import RunReport, collect_runs, looks_of
from .comparison import DETAIL, HEADLINE, Comparison
from .curves import training_plots
from .drawing import Plot, add_legend, color_of
from .environment import config_differences, fingerprint, report_environment
from .grid import choose_images, grid_plot
from .overlays import OUTCOME_COLORS
from .pruning import pruning_plot
from .volumes import VolumeRun
from .worst_images import worst_images

_TEMPLATES = Path(__file__).parent / "templates"
_FEW_IMAGES = 30
_LOOK_MEASURES = (
    "DSB_score",
    "segm/AP",
    "PQ_image_mean",
    "AJI_image_mean",
    "precision_50_pooled",
    "recall_50_pooled",
    "count_bias",
)
_QUARTERS = ("smallest quarter", "second quarter", "third quarter", "largest quarter")


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
    figures_folder: str | None = None,
) -> None:
    """Compare runs on the same images in one HTML file.

    Args:
        runs: OUTPUT_DIRs of trainings or evaluations, or folders of ``evaluate_files``; differences
            are to the first one.
        output: the HTML file, written atomically.
        labels: names of the runs; None: their folders.
        dataset: of runs that were evaluated on several data sets, that one.
        worst: number of images to draw, those of the first run's lowest DSB score, or Dice of
            volumes; none of objects of volumes.
        grid: images whose pixels are drawn for all runs side by side, see ``choose_images``; none
            of volumes.
        pruning: JSON files of benchmarks of pruned networks, see ``pruning_plot``.
        samples: number of bootstrap samples.
        ap_samples: COCO's AP, which takes longer, has the first of them.
        title: of the page; None: the data set and the runs.
        figures_folder: folder that each figure is written to as PNG and SVG too.

    Raises:
        UserError: see ``collect_runs``; or ``output`` cannot be a file; or ``worst``, ``samples``
            or ``ap_samples`` is too small; or an image or a file of ``pruning`` cannot be drawn.
    """
    _check_output(output)
    least = {"--worst": (worst, 0), "--samples": (samples, 1), "--ap-samples": (ap_samples, 1)}
    for option, (value, lowest) in least.items():
        if value < lowest:
            raise ConfigError(f"{option} must be {lowest} or more, not {value}.")
    pruned = [pruning_plot(path, f"pruning-{i}") for i, path in enumerate(pruning)]
    found = collect_runs(runs, labels, dataset)
    of_volumes = isinstance(found[0], VolumeRun)
    are_flat = not of_volumes and all(len(image.shape) == 2 for image in found[0].images)
    rows = choose_images(found, grid) if are_flat else []
    worst = worst if of_volumes or are_flat else 0
    kind = _VolumeAnalysis if of_volumes else _ObjectAnalysis
    analysis = kind(found, samples, min(samples, ap_samples))
    plots = analysis.plots() | {"grid": [grid_plot(found, rows)] if rows else [], "pruning": pruned}
    write_text(output, _render(analysis, plots, worst, title))
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
    """What tables and figures show of runs."""

    of_volumes = False
    headline, boxes = HEADLINE, figures.BOXES
    score = ("DSB_score", "DSB score")  # By which images are the worst.

    def __init__(self, runs: Sequence[RunReport | VolumeRun], samples: int, ap_samples: int):
        self.runs, self.samples, self.ap_samples = runs, samples, ap_samples
        self.comparison = Comparison(runs, samples, ap_samples, self.headline)
        self.order = np.argsort(runs[0].image_values(self.score[0]), kind="stable")
        if len(runs[0].images) == 1:
            self.note = "One image: there are no intervals."
        else:
            how = f"percentiles of {samples} bootstrap samples of the images"
            self.note = f"Intervals: 95 %, {how}."
        self.note_with_ap = self.note
        if any(run.coco for run in runs):
            self.note_with_ap += f" Those of COCO's metrics are of the first {ap_samples} samples."

    def plots(self) -> dict[str, list[Plot]]:
        """Draw the figures of the sections."""
        plots = {"differences": [], "boxes": figures.box_plots(self.runs, self.boxes)}
        if len(self.runs) > 1:
            plots["differences"].append(figures.difference_plot(self.comparison, self.note_with_ap))
        plots |= {"training": training_plots(self.runs), **self._plots()}
        plots["scores"] = [figures.score_plot(self.runs, self.order, *self.score)]
        for section, several in plots.items():
            for plot in several if section != "boxes" else ():  # Their axis names the runs.
                add_legend(plot)
        return plots


class _ObjectAnalysis(_Analysis):
    """Of objects in images."""

    def __init__(self, runs: Sequence[RunReport], samples: int, ap_samples: int):
        super().__init__(runs, samples, ap_samples)
        self.looks = looks_of(runs)
        self.by_look = by_look(runs, self.looks, samples)
        self.classes = [
            ClassResults.of(run.truth, run.predictions, run.record.options) for run in runs
        ]
        bounds, sides = quartiles_of_area(runs[0]), runs[0].record.options.area_sides
        self.quarters = by_size(runs, bounds, _QUARTERS, samples) if bounds else []
        names = ("small", "medium", "large")
        coco_bins = by_size(runs, [side**2 for side in sides], names, samples)
        self.size_tables = {"Quarters of the true objects": self.quarters, "COCO's bins": coco_bins}

    def _plots(self) -> dict[str, list[Plot]]:
        runs, note = self.runs, self.note
        return {
            "thresholds": figures.threshold_plots(self.comparison, note),
            "precision_recall": figures.precision_recall_plots(runs),
            "looks": figures.look_plots(self.by_look, runs, note),
            "sizes": figures.size_plots(self.quarters, runs, note) if self.quarters else [],
            "counts": figures.count_plots(runs),
        }

    def shown(self, worst: int) -> dict:
        """Return what the templates of this kind show."""
        return {
            "objects": self.runs[0].results.object_counts[0],
            "predicted": [run.results.object_counts[1] for run in self.runs],
            "options_differ": len({run.record.options for run in self.runs}) > 1,
            "classes": self.classes,
            "class_measures": CLASS_MEASURES,
            "look_measures": [name for name in _LOOK_MEASURES if name in self.comparison.rows],
            "size_measures": SIZE_MEASURES,
            "worst": worst_images(self.runs, self.looks, self.order[:worst]),
            "outcome_colors": OUTCOME_COLORS,
        }


class _VolumeAnalysis(_Analysis):
    """Of labels in volumes."""

    of_volumes = True
    headline, boxes = volumes.HEADLINE, volumes.BOXES
    score = ("Dice_image_mean", "Dice")

    def _plots(self) -> dict[str, list[Plot]]:
        return {}

    def shown(self, worst: int) -> dict:
        """Return what the templates of this kind show."""
        results = self.runs[0].results
        return {
            "classes": [],
            "channels": results.channels,
            "case_measures": list(results.cases),
            "case_rows": volumes.case_rows(self.runs),
            "worst": volumes.worst_volumes(self.runs, self.order[:worst]),
        }


def _render(
    analysis: _Analysis, plots: dict[str, list[Plot]], worst: int, title: str | None
) -> str:
    runs = analysis.runs
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    described = [_describe(number, run) for number, run in enumerate(runs)]
    return environment.get_template("report.html.j2").render(
        title=title or f"{runs[0].record.dataset}: {', '.join(run.label for run in runs)}",
        created=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        runs=described,
        images=len(runs[0].images),
        analysis=analysis,
        few_images=len(runs[0].images) < _FEW_IMAGES,
        plots=plots,
        detail=DETAIL,
        config_differences=config_differences([run["config"] for run in described]),
        environment=report_environment(),
        css=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        **analysis.shown(worst),
    )


def _describe(number: int, run: RunReport | VolumeRun) -> dict:
    """Return what the template says of a run."""
    return {
        "label": run.label,
        "color": color_of(number),
        "has_scores": bool(run.coco),
        "options": asdict(run.record.options),
        "files": {path: fingerprint(path) for path in (run.record.truth, run.record.predictions)},
        "config": run.training.config if run.training else "",
        "environment": run.training.environment if run.training else {},
    }


def _number(value: float, sign: bool = False) -> str:
    text = f"{value:+.2f}" if sign else f"{value:.2f}"
    return text.replace("-", "\N{MINUS SIGN}") if np.isfinite(value) else "–"
