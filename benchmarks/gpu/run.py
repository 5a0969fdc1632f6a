#!/usr/bin/env python3
"""Check, measure and train on a GPU host without network, in stages that each keep what they have.

    python3 benchmarks/gpu/run.py bundle.zip --out results --minutes 9

checks (4 minutes at most)    tests/devices on the GPU
speed (4 minutes at most)     necks, detectors, U-Nets and the models of the package
train (what is left)          an experiment, several runs at a time; called again, it goes on

OUT gets the output of each step at once, and RESULTS.md with all of them. Packages, data and runs
are in WORK, which a second call on the same host needs. SIGTERM ends the stage and writes the page.
Exit status: 0 every stage has ended by itself without a failure, 1 not so.
"""

import argparse
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[2]
LIMITS_S = {"checks": 240, "speed": 240, "train": float("inf")}
#: For the table of the trainings, which builds each network, and for them to stop before.
TABLE_S, STOP_S = 60, 30
QUICK = "configs/quick_schedules/mask_rcnn_lite0_unetsharp_instant_test.yaml"


def main() -> int:
    begin = time.monotonic()
    args = parse_args()
    args.out, args.work, args.experiment = map(Path.resolve, (args.out, args.work, args.experiment))
    args.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    environment, ended = unpack(args.bundle, args.work), {}
    stages = {"checks": check, "speed": measure, "train": train}
    try:
        for stage in args.stages.split(","):
            left = 60 * args.minutes - (time.monotonic() - begin)
            if left > 0:
                ended[stage] = "interrupted"
                runner = Runner(args.out, environment, min(left, LIMITS_S[stage]))
                stages[stage](args, runner)
                ended[stage] = "done" if runner.succeeded else "not done"
                print(f"{stage}: {ended[stage]}", flush=True)
    finally:
        page = write_page(args.out, environment, ended)
    print(page)
    return int(any(ended.get(stage) != "done" for stage in args.stages.split(",")))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("bundle", type=Path, help="of benchmarks/gpu/build.py")
    add("--out", type=Path, default=Path("output/gpu_results"), help="default: %(default)s")
    add("--work", type=Path, default=Path("output/gpu_host"), help="default: %(default)s")
    add("--minutes", type=float, default=9, help="of all stages together (default: %(default)s)")
    add("--stages", default=",".join(LIMITS_S), help="default: %(default)s")
    add("--experiment", type=Path, default=ROOT / "configs/experiments/compact_gpu.yaml")
    jobs = min(12, max(1, len(os.sched_getaffinity(0)) - 2))
    add("--jobs", type=int, default=jobs, help="trainings at a time (default: %(default)s)")
    add("--tiny", action="store_true", help="a rehearsal, on a CPU too: small networks, one check")
    return parser.parse_args()


def unpack(bundle: Path, work: Path) -> dict[str, str]:
    """Unpack a bundle, unless that is done; return the environment to run the project in."""
    done = work / "unpacked"
    content = f"{bundle.stat().st_size} {bundle.stat().st_mtime_ns}"
    if not done.is_file() or done.read_text() != content:
        with ZipFile(bundle) as archive:
            archive.extractall(work)
        decode_images(work / "data" / "dsb2018" / "images")
        done.write_text(content)
    paths = [str(ROOT), str(work / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "DETECTRON2_DATASETS": str(work / "data"),
        "GIT_STATE": (work / "git.json").read_text(),
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def decode_images(folder: Path) -> None:
    """Write each WebP as a PNG without compression, which is read in no time."""
    import cv2

    def decode(path: Path) -> None:
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
        cv2.imwrite(str(path.with_suffix(".png")), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 0])
        path.unlink()

    with ThreadPoolExecutor() as pool:
        list(pool.map(decode, folder.glob("*.webp")))


class Runner:
    """Runs the steps of a stage, each in a session of its own, until its time is up."""

    def __init__(self, out: Path, environment: dict[str, str], limit_s: float):
        self._out, self._environment = out, environment
        self._deadline = time.monotonic() + limit_s
        self.succeeded = True

    @property
    def left_s(self) -> float:
        """Seconds until the stage's time is up."""
        return self._deadline - time.monotonic()

    def run(self, file: str, *command) -> None:
        """Run Python with arguments; what it prints goes to a file of OUT, its log to log.txt."""
        with open(self._out / file, "w") as output, open(self._out / "log.txt", "a") as log:
            process = subprocess.Popen(
                [sys.executable, *map(str, command)],
                cwd=ROOT,
                env=self._environment,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )
        try:
            self.succeeded &= process.wait(max(0, self.left_s)) == 0
        except subprocess.TimeoutExpired:
            self.succeeded = False
        finally:
            end_group(process)


def end_group(process: subprocess.Popen) -> None:
    """End a process and all of its group that are still there."""
    for number, patience_s in ((signal.SIGTERM, 10), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience_s)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def check(args: argparse.Namespace, runner: Runner) -> None:
    chosen = ["-k", "volumes"] if args.tiny else []
    options = ["-v", "--continue-on-collection-errors", "-p", "no:cacheprovider", *chosen]
    runner.run("checks.txt", "-m", "pytest", "tests/devices", *options)


def measure(args: argparse.Namespace, runner: Runner) -> None:
    network = ["--bf16", "--size", 800, "--batch", 8, "--repeats", 20]
    unets = ["--bf16", "--sizes", 512, "--batch", 4, "--repeats", 20]
    finders = ["--models", "nuclei:cuda", "nuclei:cuda:bf16", "nuclei-fast:cuda"]
    finders += ["--sizes", 256, 1024, "--count", 128, "--repeats", 3]
    if args.tiny:
        network = ["--config-file", QUICK, "--size", 128, "--batch", 1, "--repeats", 1, "--bf16"]
        network += ["--schemes", "unetsharp"]
        unets = ["--sizes", 32, "--repeats", 1, "--bf16"]
        finders = ["--models", "nuclei", "--sizes", 256, "--count", 2, "--repeats", 1]
    finders += ["--data", args.work / "data" / "dsb2018"]
    steps = {"necks": network, "detectors": network, "unets": unets, "finders": finders}
    for name, options in steps.items():
        runner.run(f"speed_{name}.md", "-m", "benchmarks", name, *options)


def train(args: argparse.Namespace, runner: Runner) -> None:
    # Relative, for the table names the command.
    paths = (args.experiment, args.work / "runs", args.work / "kept")
    experiment, runs, kept = (os.path.relpath(path, ROOT) for path in paths)
    tool = ["tools/run_experiments.py", experiment, "--folder", runs]
    minutes = max(runner.left_s - TABLE_S - STOP_S, 1) / 60
    runner.run("train.txt", *tool, "--minutes", minutes, "--jobs", args.jobs)
    table = args.work / "train.md"
    runner.run("train.md", *tool, "--table", "--results", kept, "--output", table)
    if (args.work / "kept").is_dir():
        shutil.make_archive(str(args.out / "train"), "zip", args.work / "kept")


def write_page(out: Path, environment: dict[str, str], ended: dict[str, str]) -> str:
    """Write RESULTS.md of all that OUT has, and return it."""
    git = json.loads(environment["GIT_STATE"])
    revision = f"commit {git['revision'] or 'unknown'}" + " with changes" * bool(git["dirty"])
    date = datetime.date.today().isoformat()
    stages = ", ".join(f"{stage} {how}" for stage, how in ended.items())
    parts = [f"{date}, {card_and_driver()}, {revision}. Stages: {stages}."]
    checks = out / "checks.txt"
    if checks.is_file():
        lines = checks.read_text().splitlines()
        told = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        parts.append("\n".join(["Checks:", "```", *told, *lines[-1:], "```"]))
    parts += [path.read_text() for path in sorted(out.glob("*.md")) if path.name != "RESULTS.md"]
    page = "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"
    (out / "RESULTS.md").write_text(page)
    return page


def card_and_driver() -> str:
    query = "--query-gpu=name,driver_version,memory.total"
    command = ["nvidia-smi", query, "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except OSError:
        return "no GPU"


if __name__ == "__main__":
    sys.exit(main())
