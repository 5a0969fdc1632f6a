"""Table 1 of the UNet# paper, with our numbers beside the paper's.

Ours are the means of finished runs, as tools/run_experiments.py knows them; the paper does not say
how it averages, ours are the IoU of each image or volume, then their mean.
"""

import argparse
from pathlib import Path

from benchmarks.experiments.experiment import CONFIGS, Experiment
from benchmarks.experiments.results import read_results
from benchmarks.experiments.table import markdown, mean_and_deviation, values_of

METRIC = "sem_seg/IoU_image_mean"

RUNS_2D = ["unet", "wunet", "unetpp", "unetpp_ds", "unet3p_raw", "unet3p_raw_ds"]
RUNS_2D += ["unetsharp", "unetsharp_ds"]
RUNS_3D = ["vnet", "wvnet", "vnetpp", "vnetpp_ds", "vnet3p", "vnet3p_ds"]
RUNS_3D += ["vnetsharp", "vnetsharp_ds"]

# IoU (%) of Qian et al., arXiv 2205.11786, Table 1, in the order of the runs.
PAPER_2D = {
    "dsb2018": [90.15, 90.27, 92.02, 91.98, 91.96, 92.15, 92.53, 92.67],
    "brats19": [89.96, 90.06, 90.03, 91.01, 90.67, 91.69, 91.67, 92.38],
    "lits17": [91.43, 91.52, 91.59, 91.64, 91.21, 92.14, 94.79, 95.36],
    "lidc": [72.59, 72.93, 72.73, 73.43, 73.22, 73.48, 73.68, 74.01],
}
PAPER_3D = {"luna16": [71.21, 73.52, 76.35, 77.62, 76.78, 78.23, 77.69, 79.45]}


def table1(folder: Path, configs: Path = CONFIGS / "experiments") -> str:
    """Return the table in Markdown: networks by data sets, "paper / ours".

    Args:
        folder: of all experiments' runs, ``output/experiments``.
        configs: of the files ``table1_<data set>.yaml``, and of the kept ``results/``.
    """
    parts = []
    for runs, paper in ((RUNS_2D, PAPER_2D), (RUNS_3D, PAPER_3D)):
        ours = {data: _ours(configs / f"table1_{data}.yaml", runs, folder) for data in paper}
        rows = [
            [run, *(f"{paper[data][row]:.2f} / {ours[data][row]}" for data in paper)]
            for row, run in enumerate(runs)
        ]
        parts.append(markdown(["IoU (%), paper / ours", *paper], rows))
    return "\n\n".join(parts)


def _ours(file: Path, runs: list[str], folder: Path) -> list[str]:
    experiment = Experiment.load(file)
    kept = file.parent / "results" / experiment.name
    results = read_results(experiment, folder / experiment.name, kept)
    found = [list(values_of(results, run, METRIC).values()) for run in runs]
    return [mean_and_deviation(values) if values else "not run" for values in found]


def main(argv) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks table1", description=__doc__)
    default = Path("output", "experiments")
    help_ = f"of the experiments' runs (default: {default})"
    parser.add_argument("--folder", type=Path, default=default, help=help_)
    print(table1(parser.parse_args(argv[1:]).folder))
