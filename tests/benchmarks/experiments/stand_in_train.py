"""Takes the arguments of tools/train_net.py and leaves its files behind, without torch.

Its "weights" are a sum over the iterations, so that a run that was resumed rightly, and only such
a one, ends with the metric of one that was not stopped. A child that dies of SIGTERM plays the
loader's worker: the training fails without it.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SECONDS = float(os.environ.get("STAND_IN_SECONDS", "0.02"))  # an iteration
LOG_PERIOD = 20


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config-file")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--eval-only", action="store_true")
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    opts = dict(zip(args.opts[0::2], args.opts[1::2], strict=True))
    folder = Path(opts["OUTPUT_DIR"])
    print({name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")})
    if opts.get("SOLVER.OPTIMIZER") == "Adam":
        print("ValueError: no such data")
        return 1
    if args.eval_only:
        level = int(opts["TEST.PRUNE_TO_LEVEL"])
        weights = json.loads(Path(opts["MODEL.WEIGHTS"]).read_text())
        evaluate(folder / f"L{level}", weights["sum"] / 10**level)
    else:
        train(folder, int(opts["SEED"]), int(opts["SOLVER.MAX_ITER"]))
    return 0


def train(folder: Path, seed: int, max_iter: int) -> None:
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    worker = subprocess.Popen(["sleep", "20"])
    try:
        state = iterate(folder, seed, max_iter, stop, worker)
    finally:
        worker.kill()
    evaluate(folder, state["sum"])


def iterate(folder: Path, seed: int, max_iter: int, stop: list, worker: subprocess.Popen) -> dict:
    last = folder / "last_checkpoint"
    state = {"iteration": -1, "sum": 0}
    if last.is_file():
        state = json.loads((folder / last.read_text()).read_text())
    first = state["iteration"] + 1
    print(f"Starting training from iteration {first}", flush=True)
    for iteration in range(first, max_iter):
        time.sleep(SECONDS)
        if worker.poll() is not None:
            sys.exit("RuntimeError: a worker was killed")
        state = {"iteration": iteration, "sum": state["sum"] + iteration * (seed + 1)}
        is_last = iteration == max_iter - 1
        if is_last or iteration % LOG_PERIOD == LOG_PERIOD - 1:
            with open(folder / "metrics.json", "a") as file:
                file.write(json.dumps({"iteration": iteration, "time": SECONDS}) + "\n")
        if stop or is_last or iteration % 5 == 4:
            name = "model_final.pth" if is_last else f"model_{iteration:07d}.pth"
            (folder / name).write_text(json.dumps(state))
            last.write_text(name)
        if stop and not is_last:
            sys.exit(75)
    return state


def evaluate(folder: Path, value: float) -> None:
    (folder / "inference").mkdir(parents=True, exist_ok=True)
    metrics = {"IoU_image_mean": value, "Dice_image_mean": None}
    (folder / "inference" / "semantic_metrics.json").write_text(json.dumps({"metrics": metrics}))
    speed = {"images": 1, "images_per_second": 8.0}
    (folder / "inference" / "speed.json").write_text(json.dumps(speed))


if __name__ == "__main__":
    sys.exit(main())
