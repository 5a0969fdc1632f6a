"""The report as one HTML file that needs no network."""

import datetime
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from ..errors import ConfigError
from ..evaluation.evaluate_files import AP_SAMPLES
from ..evaluation.instances.results import SAMPLES
from ..files import write_text
from . import curves, figures
from .breakdown import SIZE_MEASURES, by_look, by_size, quartiles_of_area
from .collect import RunReport, collect_runs, looks_of
from .comparison import Comparison
from .environment import config_differences, fingerprint, report_environment
from .estimates import Estimate
from .overlays import OUTCOME_COLORS
from .plotting import Plot, color_of, interval_text
from .worst_images import order_by_score, worst_images

WORST = 10

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
    worst: int = WORST,
    samples: int = SAMPLES,
    ap_samples: int = AP_SAMPLES,
    title: str | None = None,
) -> list[RunReport]:
    """Compare runs on the same images in one HTML file.

    Args:
        runs: OUTPUT_DIRs of trainings or evaluations, or folders of tools/evaluate.py; differences
            are to the first one.
        output: the HTML file, written atomically.
        labels: names of the runs; None: their folders.
        dataset: of runs that were evaluated on several data sets, that one.
        worst: number of images to draw, those of the first run's lowest DSB score.
        samples: number of bootstrap samples.
        ap_samples: COCO's AP, which takes longer, has the first of them.
        title: of the page; None: the data set and the runs.

    Returns:
        list[RunReport]: what was read of the runs.

    Raises:
        UserError: see ``collect_runs``; or ``output`` cannot be a file; or ``worst``, ``samples``
            or ``ap_samples`` is too small.
    """
    _check_output(output)
    least = {"--worst": (worst, 0), "--samples": (samples, 1), "--ap-samples": (ap_samples, 1)}
    for option, (value, lowest) in least.items():
        if value < lowest:
            raise ConfigError(f"{option} must be {lowest} or more, not {value}.")
    found = collect_runs(runs, labels, dataset)
    write_text(output, render(found, worst, samples, min(samples, ap_samples), title))
    return found


def render(
    runs: Sequence[RunReport], worst: int, samples: int, ap_samples: int, title: str | None
) -> str:
    """Return the page; arguments as of :func:`write_report`."""
    comparison = Comparison(runs, samples, ap_samples)
    looks = looks_of(runs)
    groups = by_look(runs, looks, samples)
    note = _interval_note(len(runs[0].images), samples)
    with_ap = f"{note} Those of COCO's metrics are of the first {ap_samples} samples."
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "interval": _interval, "spec": _plot_spec}
    dataset = runs[0].record.dataset
    return environment.get_template("report.html.j2").render(
        title=title or f"{dataset}: {', '.join(run.label for run in runs)}",
        created=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        runs=[_describe(number, run) for number, run in enumerate(runs)],
        images=len(runs[0].images),
        objects=runs[0].results.object_counts[0],
        samples=samples,
        ap_samples=ap_samples,
        note=note,
        note_with_ap=with_ap if any(run.coco for run in runs) else note,
        few_images=len(runs[0].images) < _FEW_IMAGES,
        options_differ=len({run.record.options for run in runs}) > 1,
        comparison=comparison,
        difference=figures.difference_plot(comparison, with_ap) if len(runs) > 1 else None,
        thresholds=figures.threshold_plots(comparison, note),
        precision_recall=figures.precision_recall_plots(runs),
        boxes=figures.box_plots(runs),
        looks=groups,
        look_measures=[name for name in _LOOK_MEASURES if name in comparison.rows],
        look_plots=figures.look_plots(groups, runs, note),
        **_sizes(runs, samples, note),
        count_plots=figures.count_plots(runs),
        training=curves.training_plots(runs),
        worst=worst_images(runs, looks, worst),
        scores=figures.score_plot(runs, order_by_score(runs[0])),
        outcome_colors=OUTCOME_COLORS,
        config_differences=config_differences([_config(run) for run in runs]),
        environment=report_environment(),
        css=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup((_TEMPLATES / "report.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
    )


def _check_output(output) -> None:
    if os.path.isdir(output):
        raise ConfigError(
            f"--output: {output} is a folder, give a file, e.g. {Path(output) / 'report.html'}."
        )
    for folder in Path(output).parents:
        if os.path.exists(folder) and not os.path.isdir(folder):
            raise ConfigError(
                f"--output: {output} lies below {folder}, which is a file, not a folder."
            )


def _interval_note(images: int, samples: int) -> str:
    if images == 1:
        return "One image: there are no intervals."
    return f"Intervals: 95 %, percentiles of {samples} bootstrap samples of the images."


def _sizes(runs: Sequence[RunReport], samples: int, note: str) -> dict:
    bounds = quartiles_of_area(runs[0])
    quarters = by_size(runs, bounds, _QUARTERS, samples) if bounds else []
    sides = runs[0].record.options.area_sides
    coco = by_size(runs, [side**2 for side in sides], ("small", "medium", "large"), samples)
    return {
        "size_tables": {"Quarters of the true objects": quarters, "COCO's bins": coco},
        "size_measures": SIZE_MEASURES,
        "size_plots": figures.size_plots(quarters, runs, note) if quarters else [],
    }


def _describe(number: int, run: RunReport) -> dict:
    """Return what the template says of a run."""
    return {
        "label": run.label,
        "color": color_of(number),
        "dataset": run.record.dataset,
        "predicted": run.results.object_counts[1],
        "has_scores": bool(run.coco),
        "options": asdict(run.record.options),
        "files": {path: fingerprint(path) for path in (run.record.truth, run.record.predictions)},
        "config": _config(run),
        "environment": run.training.environment if run.training else {},
    }


def _config(run: RunReport) -> str:
    return run.training.config if run.training else ""


def _number(value: float, digits: int = 2, sign: bool = False) -> str:
    if not np.isfinite(value):
        return "–"
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def _interval(estimate: Estimate) -> str:
    return interval_text(estimate).replace("-", "\N{MINUS SIGN}")


def _plot_spec(plot: Plot) -> Markup:
    """Return a figure as JSON that cannot end the script element that it is put into."""
    spec = json.loads(plot.figure.to_json())
    text = json.dumps({"data": spec["data"], "layout": spec["layout"]})
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
