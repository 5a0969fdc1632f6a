"""This package's models and StarDist in one run: accuracy, time and memory by image size.

Seconds are those of the CPU, of NAME:cuda those of the clock.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import table
from benchmarks.options import new_parser, positive
from unet_sharp_det.evaluation.evaluation import Evaluation
from unet_sharp_det.evaluation.record import EvaluationRecord
from unet_sharp_det.images.decoding import read_image

_HEADERS = ["program", "images", "s an image", "times the first's", "peak MiB"]


@dataclass
class Finder:
    """A program with its model, and what its images cost.

    Attributes:
        python: that runs it.
        seconds: CPU s of each image, of all rounds.
        peak: MiB of memory, the largest.
    """

    program: str
    model: str
    python: str
    seconds: list[float] = field(default_factory=list)
    peak: float = 0.0

    @property
    def name(self) -> str:
        return "StarDist" if self.program == "stardist" else self.model

    def run(self, images: Path, labels: Path | None = None) -> None:
        """Find the nuclei of a folder of images, in a process of its own."""
        command = [self.python, "-m", "benchmarks.finder_worker", self.program, self.model]
        command += [str(images), *(["--labels", str(labels)] if labels else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        self.seconds += found["cpu_s"]
        self.peak = max(self.peak, found["peak_mib"])


def main(argv) -> None:
    parser = new_parser(argv[0], __doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="dsb2018 folder, as converted")
    help_ = "names or files; NAME:L2, :int8, :cuda, :tta, a scale as :x0.8 or :xauto, several"
    add("--models", nargs="+", default=["nuclei"], help=help_)
    add("--stardist", help="folder of a StarDist model, the first program then")
    help_ = "Python of StarDist's environment (default: this one)"
    add("--stardist-python", default=sys.executable, help=help_)
    add("--sizes", type=positive, nargs="+", default=[256, 512, 1024, 2048])
    add("--count", type=positive, default=20, help="images of 256 x 256 (default: %(default)s)")
    add("--accuracy", action="store_true", help="find all validation images too")
    args = parser.parse_args(argv[1:])
    torch.set_num_threads(1)  # As the programs have, which tables say.
    stardist = [("stardist", args.stardist, args.stardist_python)] if args.stardist else []
    programs = stardist + [("unet_sharp_det", model, sys.executable) for model in args.models]
    truth = args.data / "annotations" / "dsb2018_val.json"
    paths = [args.data / each["file_name"] for each in json.loads(truth.read_text())["images"]]
    for size in args.sizes:
        print(compare_costs(programs, paths, size, args.count, args.repeats), flush=True)
    if args.accuracy:
        print(compare_accuracy(programs, paths, truth), flush=True)


def compare_costs(
    programs: list[tuple[str, str, str]], paths: list[Path], size: int, count: int, repeats: int
) -> str:
    """Return a table of time, one thread, and memory; the programs take turns.

    Args:
        programs: of :class:`Finder`.
        paths: images, of which those of 256 x 256 are taken, mirrored to ``size``.
        count: images of 256 x 256; of larger ones fewer, but two.
    """
    finders = [Finder(*each) for each in programs]
    with tempfile.TemporaryDirectory() as folder:
        _write_mirrored(paths, Path(folder), size, max(2, count * 256**2 // size**2))
        for _ in range(repeats):
            for finder in finders:
                finder.run(Path(folder))
    medians = [statistics.median(finder.seconds) for finder in finders]
    rows = [
        [finder.name, len(finder.seconds) // repeats, median, median / medians[0], finder.peak]
        for finder, median in zip(finders, medians, strict=True)
    ]
    return table(f"{size} x {size}", _HEADERS, rows, floatfmt=("", "", ".3f", ".2f", ".0f"))


def compare_accuracy(programs: list[tuple[str, str, str]], paths: list[Path], truth: Path) -> str:
    """Return a table of DSB scores on all images, and their mean time."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        images.mkdir()
        for path in paths:
            np.save(images / f"{path.stem}.npy", read_image(path, "RGB"))
        for number, program in enumerate(programs):
            labels = Path(folder, str(number))
            labels.mkdir()
            finder = Finder(*program)
            finder.run(images, labels)
            record = EvaluationRecord("val", str(truth), str(labels), suffix="")
            scores = Evaluation.of(record).results.headline["instances"]
            measures = [scores[name] for name in ("DSB_score", "F1_50_image_mean", "PQ_image_mean")]
            rows.append([finder.name, *measures, statistics.mean(finder.seconds), finder.peak])
    headers = ["program", "DSB score", "F1 at IoU .5", "PQ", "s an image", "peak MiB"]
    formats = ("", ".1f", ".1f", ".1f", ".3f", ".0f")
    return table(f"{len(paths)} images", headers, rows, floatfmt=formats)


def _write_mirrored(paths: list[Path], folder: Path, size: int, count: int) -> None:
    for path in paths:
        image = read_image(path, "RGB")
        if image.shape[:2] == (256, 256):
            wide = np.pad(image, [(0, size - 256), (0, size - 256), (0, 0)], "symmetric")
            np.save(folder / f"{path.stem}.npy", wide)
            count -= 1
        if count == 0:
            return
