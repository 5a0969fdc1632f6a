"""Prediction by Dask's workers: how it scales, whether killed workers matter, what limits it."""

import argparse
import functools
import json
import os
import random
import signal
import tempfile
import threading
import time
from pathlib import Path

from distributed import Client

from unet_sharp_det.batch.dask_units import DaskUnits, open_client
from unet_sharp_det.batch.run import predict_files
from unet_sharp_det.prediction import PredictionOptions, Predictor

#: Files of a run that say when and how it was made.
_OF_RUN = {"predict.json", "predict.log", "predict_records.jsonl", ".predict.lock"}


def main(argv) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks dask", description=__doc__)
    add = parser.add_argument
    add("images", nargs="+", type=Path, metavar="IMAGE", help="files or folders")
    add("--weights", default="nuclei-fast", help="default: %(default)s")
    add("--workers", nargs="+", type=int, default=[1, 2, 1, 2], help="default: %(default)s")
    add("--kills", type=int, default=0, metavar="N", help="also N runs with a killed worker each")
    add("--tasks", type=int, default=10_000, help="empty tasks, of the scheduler's speed")
    args = parser.parse_args(argv[1:])
    load = functools.partial(
        Predictor.from_checkpoint, args.weights, options=PredictionOptions(), device="cpu"
    )
    with tempfile.TemporaryDirectory() as folder:
        expected = _contents(_run(load, args.images, Path(folder) / "here", None))
        for number, workers in enumerate(args.workers):
            output = Path(folder) / f"scaling{number}"
            with open_client(f"local:{workers}") as client:
                # Every worker imports and loads first, which a long run does once.
                _run(load, args.images, Path(folder) / f"first{number}", client)
                output = _run(load, args.images, output, client)
            same = _contents(output) == expected
            print(f"{workers} workers: {_seconds(output):.1f} s, the same files: {same}")
        with open_client("local:2") as client:
            equal = sum(
                _contents(_run_killed(load, args.images, Path(folder) / f"kill{number}", client))
                == expected
                for number in range(args.kills)
            )
            print(f"a worker killed at random: {equal} of {args.kills} runs wrote the same files")
            start = time.perf_counter()
            client.gather(client.map(lambda number: number, range(args.tasks), pure=False))
            print(f"empty tasks: {args.tasks / (time.perf_counter() - start):.0f} per second")


def _run(load, images, output: Path, client: Client | None) -> Path:
    options = {"run_units": DaskUnits(client, load)} if client else {}
    predict_files(load(), images, output, outputs=["labels", "table"], **options)
    return output


def _run_killed(load, images, output: Path, client: Client) -> Path:
    """Predict while one of the workers dies at some time of the run."""
    pids = list(client.run(os.getpid).values())
    delay = random.uniform(0, 10)
    timer = threading.Timer(delay, os.kill, (random.choice(pids), signal.SIGKILL))
    timer.start()
    _run(load, images, output, client)
    timer.cancel()
    print(f"killed after {delay:.1f} of {_seconds(output):.1f} s")
    client.wait_for_workers(2)
    return output


def _seconds(output: Path) -> float:
    return json.loads((output / "predict.json").read_text())["seconds"]


def _contents(output: Path) -> dict[str, bytes]:
    paths = [path for path in output.rglob("*") if path.is_file() and path.name not in _OF_RUN]
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in sorted(paths)}
