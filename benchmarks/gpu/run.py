#!/usr/bin/env python3
"""Check, measure and train on a GPU host without network, in stages that each keep what they have.

    python3 benchmarks/gpu/run.py bundle.zip --out results --minutes 9

checks (4 minutes at most)    tests/devices on the GPU
speed (3 minutes at most)     necks, detectors, U-Nets and prediction
train (what is left)          an experiment, several runs at a time; called again, it goes on

Every figure is written to OUT at once; RESULTS.md is the page of all of them. OUT has few files, so
that they are easily brought back. Packages, data and runs are in WORK, which a second call on the
same host needs. SIGTERM ends the stage and writes the page. Exit status: 0 every stage has ended by
itself without a failure, 1 not so.
"""

import argparse
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

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIMITS_S = {"checks": 240, "speed": 180, "train": float("inf")}
#: To end the last stage and to write the table and the page.
RESERVE_S = 30
#: For the table of the trainings, which builds each network.
TABLE_S = 60


def main() -> int:
    begin = time.monotonic()
    args = parse_args()
    args.out, args.work, args.experiment = map(Path.resolve, (args.out, args.work, args.experiment))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for folder in (args.out, args.work / "results"):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(args.work / "results", args.out, dirs_exist_ok=True)
    host, stages = Host(args, unpack(args.bundle, args.work)), args.stages.split(",")
    try:
        for stage in stages:
            left = 60 * args.minutes - (time.monotonic() - begin) - RESERVE_S
            if left > 0:
                host.run_stage(stage, min(left, LIMITS_S[stage]))
    finally:
        host.run([HERE / "results.py", args.out], RESERVE_S)
        shutil.copytree(args.out, args.work / "results", dirs_exist_ok=True)
    print((args.out / "RESULTS.md").read_text())
    return int(any(host.stages.get(stage, {}).get("exit") != 0 for stage in stages))


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
    cores = len(os.sched_getaffinity(0))
    jobs = min(12, max(1, cores - 2))
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


class Host:
    """Runs stages, each in a session of its own, and notes how they ended."""

    def __init__(self, args: argparse.Namespace, environment: dict[str, str]):
        self.args = args
        self.environment = environment
        self._file = args.out / "stages.json"
        self.stages = json.loads(self._file.read_text()) if self._file.is_file() else {}

    def run_stage(self, stage: str, limit_s: float) -> None:
        begin = time.monotonic()
        self._note(stage, {"exit": "interrupted", "limit_s": round(limit_s)})
        code = getattr(self, f"_{stage}")(limit_s)
        self._note(stage, {"exit": code, "seconds": round(time.monotonic() - begin, 1)})

    def _note(self, stage: str, how: dict) -> None:
        self.stages[stage] = how
        replace_file(self._file, json.dumps(self.stages, indent=1))
        print(f"{stage}: {how}", flush=True)

    def _checks(self, limit_s: float):
        chosen = ["-k", "volumes"] if self.args.tiny else []
        return self.run([HERE / "checks.py", self.args.out / "checks.json", *chosen], limit_s)

    def _speed(self, limit_s: float):
        tiny = ["--tiny"] if self.args.tiny else []
        return self.run([HERE / "speed.py", self.args.out / "speed.json", *tiny], limit_s)

    def _train(self, limit_s: float):
        kept = self.args.work / "kept"
        paths = (self.args.experiment, self.args.work / "runs", kept, self.args.out / "train.md")
        # Relative, for the table names the command.
        experiment, runs, numbers, table = (os.path.relpath(path, ROOT) for path in paths)
        tool = ["tools/run_experiments.py", experiment, "--folder", runs]
        train_s = limit_s - min(TABLE_S, limit_s / 2)
        limits = ["--minutes", train_s / 60, "--jobs", self.args.jobs]
        code = self.run([*tool, *limits], train_s + 15)
        self.run([*tool, "--table", "--results", numbers, "--output", table], TABLE_S)
        if kept.is_dir():
            shutil.make_archive(str(self.args.out / "train"), "zip", kept)
        return code

    def run(self, command: list, limit_s: float):
        """Run a Python script; return its exit status, or "timeout" after it was ended."""
        with open(self.args.out / "log.txt", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, *map(str, command)],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return "timeout"
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


def replace_file(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
