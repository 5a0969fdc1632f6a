"""The table of an experiment in Markdown: mean and standard deviation over seeds, and costs."""

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from tabulate import tabulate

from benchmarks.experiments.cost import OBJECTS, SIZE, NetworkCost
from benchmarks.experiments.experiment import Experiment
from benchmarks.experiments.intervals import difference_interval
from unet_sharp_det.errors import ConfigError, UserError, look_up_option
from unet_sharp_det.evaluation.record import AP_SAMPLES
from unet_sharp_det.files import write_text

Results = dict[tuple[str, int], dict]

_COSTS = {
    "train img/s": "train_images_per_second",
    "inference img/s": "inference_images_per_second",
    "CPU-s": "cpu_s",
    "peak MiB": "peak_memory_mib",
}


def format_tables(
    experiment: Experiment, results: Results, costs: dict[str, NetworkCost], command: str
) -> str:
    """The metrics and costs of all runs, and the differences from the first one.

    Args:
        experiment: rows and columns.
        results: of :func:`~.results.read_results`.
        costs: by the run's name.
        command: that repeats the table.

    Raises:
        UserError: no run is finished, or none has one of the metrics.
    """
    if not results:
        raise UserError(f"{experiment.path}: no run is finished. Run it without --table first.")
    known = {metric for result in results.values() for metric in result["metrics"]}
    for metric in experiment.metrics:
        look_up_option(metric, sorted(known), f"{experiment.path}: metrics", ConfigError)
    parts = [f"### {experiment.name}", experiment.description, _conditions(results)]
    parts.append(_metrics_table(experiment, results))
    difference = _difference_table(experiment, results)
    if difference:
        first = experiment.runs[0].name
        parts.append(
            f"Difference from {first} on the same seeds: mean, and the 95 % interval over seeds "
            "and images or ± the standard deviation over the seeds:"
        )
        parts.append(difference)
    parts += [_costs_table(experiment, results, costs), _explain(experiment), f"`{command}`"]
    return "\n\n".join(part for part in parts if part)


def mean_and_deviation(values: Sequence[float], signed: bool = False) -> str:
    """Mean ± sample standard deviation; a single value is marked, none is "-"."""
    if not values:
        return "-"
    sign = "+" if signed else ""
    mean = f"{statistics.fmean(values):{sign}.2f}"
    if len(values) == 1:
        return f"{mean} (1 seed)"
    return f"{mean} ± {statistics.stdev(values):.2f}"


def write_zoo(path, name: str, text: str) -> None:
    """Put ``text`` between the markers of an experiment, and leave the rest of the file alone.

    Args:
        path: of a Markdown file, made if it does not exist; markers that are not there are added
            at its end.
        name: of the experiment, in ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.

    Raises:
        UserError: only one of the markers is there, they are in the wrong order, or there twice.
    """
    path = Path(path)
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    counts = old.count(begin), old.count(end)
    block = f"{begin}\n{text}\n{end}"
    if counts == (0, 0):
        new = f"{old.rstrip()}\n\n{block}\n".lstrip()
    elif counts == (1, 1) and old.index(begin) < old.index(end):
        before, rest = old.split(begin)
        new = f"{before}{block}{rest.split(end)[1]}"
    else:
        raise UserError(
            f"{path}: '{begin}' and '{end}' must each stand there once. Mend or delete them."
        )
    write_text(path, new)


def values_of(results: Results, run: str, metric: str) -> dict[int, float]:
    """A metric of a run by the seed; undefined ones are left out."""
    found = {seed: r["metrics"].get(metric) for (name, seed), r in results.items() if name == run}
    return {seed: v for seed, v in found.items() if v is not None and math.isfinite(v)}


def _metrics_table(experiment: Experiment, results: Results) -> str:
    rows = []
    for run in experiment.runs:
        seeds = [seed for name, seed in results if name == run.name]
        values = [values_of(results, run.name, metric) for metric in experiment.metrics]
        cells = [mean_and_deviation(list(each.values())) for each in values]
        rows.append([run.name, _shown(seeds), *cells])
    return markdown(["run", "seeds", *experiment.metrics], rows)


def _difference_table(experiment: Experiment, results: Results) -> str:
    rows = []
    for run in experiment.runs[1:]:
        cells, common = [], set()
        for metric in experiment.metrics:
            base = values_of(results, experiment.runs[0].name, metric)
            values = values_of(results, run.name, metric)
            shared = sorted(base.keys() & values.keys())
            common.update(shared)
            differences = [values[seed] - base[seed] for seed in shared]
            drawn = [
                [results[name, seed].get("drawn", {}).get(metric) for seed in shared]
                for name in (experiment.runs[0].name, run.name)
            ]
            cells.append(_difference(differences, *drawn))
        if common:
            rows.append([run.name, _shown(common), *cells])
    return markdown(["run", "seeds", *experiment.metrics], rows) if rows else ""


def _difference(values: list[float], base: list[str | None], other: list[str | None]) -> str:
    """The mean of a metric's differences, with the interval where all runs have samples of it."""
    if not values or None in (*base, *other):
        return mean_and_deviation(values, signed=True)
    low, high = difference_interval(base, other)
    return f"{statistics.fmean(values):+.2f} [{low:.2f}, {high:.2f}]"


def _shown(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds))) or "not run"


def _costs_table(experiment: Experiment, results: Results, costs: dict[str, NetworkCost]) -> str:
    rows = []
    for run in experiment.runs:
        network = costs[run.name]
        counts = (network.parameters / 1e6, network.features_gmac, network.whole_gmac)
        row = [run.name, *(f"{count:.3f}" for count in counts)]
        for key in _COSTS.values():
            of_run = [r["cost"].get(key) for (name, _), r in results.items() if name == run.name]
            found = [value for value in of_run if value is not None]
            row.append(f"{statistics.fmean(found):.4g}" if found else "-")
        rows.append(row)
    headers = ["run", "M parameters", "GMAC backbone", "GMAC whole", *_COSTS]
    used = [i for i in range(len(headers)) if any(row[i] != "-" for row in rows)]
    return markdown([headers[i] for i in used], [[row[i] for i in used] for row in rows])


def markdown(headers: list[str], rows: list[list[str]]) -> str:
    """A table of texts."""
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _conditions(results: Results) -> str:
    """Which code and machines the runs were made with."""
    revisions = {_revision(state) for result in results.values() for state in result["git"]}
    machines = {result["environment"]["machine"] for result in results.values()}
    return f"Code: {'; '.join(sorted(revisions))}. Run on: {'; '.join(sorted(machines))}."


def _revision(git: dict) -> str:
    if git["revision"] is None:
        return "no git checkout"
    return f"commit {git['revision'][:10]}" + (" with changes" if git["dirty"] else "")


def _explain(experiment: Experiment) -> str:
    iterations = sorted({run.cfg.SOLVER.MAX_ITER for run in experiment.runs})
    return (
        f"Trainings of {' or '.join(map(str, iterations))} iterations. ± is the sample standard "
        "deviation over the seeds; one seed has none, and a few say little about small "
        f"differences. Intervals are of {AP_SAMPLES} bootstrap samples of images and seeds. "
        f"GMAC: 1e9 multiply-adds of an image of {SIZE} x {SIZE} at the network's "
        "input; backbone with its neck or encoder alone, whole with all proposals in the box head "
        f"and {OBJECTS} objects in the mask head. Speeds include the loading of images in training "
        "and are of the network alone in inference, one image at a time; CPU-s are of start, "
        "training and evaluation, peaks of the process."
    )
