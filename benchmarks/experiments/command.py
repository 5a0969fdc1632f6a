"""Train and evaluate a matrix of configs and seeds, and write the table that compares them.

tools/run_experiments.py EXPERIMENT.yaml                  run all that is not finished
tools/run_experiments.py EXPERIMENT.yaml --minutes 30     as far as that goes
tools/run_experiments.py EXPERIMENT.yaml --table          print what is finished
tools/run_experiments.py EXPERIMENT.yaml --table --output docs/EXPERIMENTS.md

Experiments are in configs/experiments. Each run has its folder, OUTPUT_DIR of tools/train_net.py
and run.json: output/experiments/<experiment>/<run>/seed<k>. Call again to go on: finished runs are
skipped, stopped and killed ones resumed, failed ones tried again. Exit status: 0 all finished, 1
some failed, 75 some are left. --slurm time=60,gpus=8 does so in a job (docs/CLUSTER.md).

--table --output also keeps each run's numbers in configs/experiments/results, which is enough to
write the table again.
"""

import argparse
import shlex
import sys
from pathlib import Path

from detectron2.utils.logger import setup_logger

from benchmarks.experiments.cost import network_cost
from benchmarks.experiments.experiment import Experiment
from benchmarks.experiments.results import keep_results, read_results
from benchmarks.experiments.scheduler import Scheduler, exit_status, summary
from benchmarks.experiments.table import format_tables, write_zoo
from unet_sharp_det.training import submit

TRAIN_SCRIPT = Path(__file__).parents[2] / "tools" / "train_net.py"


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("experiment", type=Path, metavar="EXPERIMENT.yaml")
    add("--folder", help="of the runs (default: output/experiments/<experiment>)")
    add("--runs", nargs="+", metavar="RUN", help="only these")
    add("--seeds", nargs="+", type=int, metavar="K", help="only these")
    add("--minutes", type=float, help="then stop at a checkpoint")
    add("--jobs", type=int, help="processes at once (default: one per GPU, else 1)")
    add("--slurm", metavar="KEY=VALUE,...", help="submit a job; docs/CLUSTER.md lists the keys")
    add("--table", action="store_true", help="print the table of what is finished; run nothing")
    add("--output", metavar="F.md", help="with --table, replace the experiment's part of this file")
    add("--results", help="with --table, kept numbers (default: results/ beside EXPERIMENT.yaml)")
    args = parser.parse_args(argv)
    if args.output and not args.table:
        parser.error("--output is for --table; the folder of the runs is --folder")
    return args


def main(argv=None) -> int:
    args = parse_args(argv)
    if args.slurm is None:
        return run(args)
    folder = _folder_of(Experiment.load(args.experiment), args)
    submit(run, args, args.slurm, folder / "slurm", per_gpu=False)
    return 0


def run(args: argparse.Namespace) -> int:
    """Run what is not finished, or print the table; return the exit status."""
    setup_logger(name="unet_sharp_det")
    setup_logger(name="benchmarks")
    experiment = Experiment.load(args.experiment)
    folder = _folder_of(experiment, args)
    if args.table:
        print_table(args, experiment, folder)
        return 0
    options = {"runs": args.runs, "seeds": args.seeds, "jobs": args.jobs, "minutes": args.minutes}
    counts = Scheduler(experiment, folder, TRAIN_SCRIPT, **options).run()
    print(f"{experiment.name}: {summary(counts)}. {folder}")
    return exit_status(counts)


def _folder_of(experiment: Experiment, args: argparse.Namespace) -> Path:
    return Path(args.folder or Path("output", "experiments", experiment.name))


def print_table(args: argparse.Namespace, experiment: Experiment, folder: Path) -> None:
    kept = Path(args.results or args.experiment.parent / "results") / experiment.name
    results = read_results(experiment, folder, kept)
    costs = {run.name: network_cost(run.evaluated_cfg) for run in experiment.runs}
    command = shlex.join(["python", "tools/run_experiments.py", *sys.argv[1:]])
    text = format_tables(experiment, results, costs, command)
    print(text)
    if args.output:
        keep_results(results, experiment, kept)
        write_zoo(args.output, experiment.name, text)
