"""Train StarDist on DSB2018 as its users do, for a comparison: label maps and what they cost.

python -m benchmarks stardist --data datasets/dsb2018 --output output/stardist
unet-sharp-det evaluate --predictions output/stardist/labels --images datasets/dsb2018 \\
    --truth datasets/dsb2018/annotations/dsb2018_val.json --output output/stardist/inference

Needs an environment of its own (pip install stardist "tensorflow-cpu<2.16" "numpy<2" pycocotools).
Settings are those of StarDist's example notebooks; the validation images choose the epoch whose
weights are kept and both thresholds. OUTPUT gets

stardist/      the model, with training.json: steps and seconds so far; both written each epoch
stardist_Ns/   for each of --snapshots, the same as it was after N CPU seconds
labels/        a label map of each validation image, for unet-sharp-det evaluate
cost.json      seconds of training, choosing thresholds and predicting, thresholds and versions
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

REQUIREMENTS = 'stardist "tensorflow-cpu<2.16" "numpy<2" pycocotools'
STEPS_PER_EPOCH = 100
PATCH = 256  # pixels


@dataclass(frozen=True)
class Split:
    """The images of a part of the data set, (H, W, 3) float32, and their label maps."""

    stems: list[str]
    images: list[np.ndarray]
    labels: list[np.ndarray]


def start_clock() -> Callable[[], dict[str, float]]:
    """Return what tells the seconds since now: of the CPU, by all threads, and of the wall."""
    clocks = {"cpu_s": time.process_time, "wall_s": time.perf_counter}
    starts = {name: clock() for name, clock in clocks.items()}
    return lambda: {name: round(clock() - starts[name], 3) for name, clock in clocks.items()}


def parse_args(argv) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks stardist",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="dsb2018 folder, as converted")
    parser.add_argument("--output", type=Path, required=True, help="new folder to write to")
    parser.add_argument("--model", type=Path, help="use this stardist/, of a stopped training too")
    parser.add_argument("--steps", type=positive, default=4500, help="default: 4500")
    parser.add_argument("--snapshots", type=positive, nargs="+", default=[], metavar="CPU_S")
    args = parser.parse_args(argv)
    needed = [args.data / "annotations" / f"dsb2018_{name}.json" for name in ("train", "val")]
    if args.model:
        needed += [args.model / n for n in ("config.json", "weights_best.h5", "training.json")]
    for path in needed:
        if not path.is_file():
            parser.error(f"{path} does not exist")
    if args.output.exists() and any(args.output.iterdir()):
        parser.error(f"--output {args.output} is not empty: give a new folder")
    if args.steps % STEPS_PER_EPOCH:
        parser.error(f"--steps {args.steps}: give a multiple of {STEPS_PER_EPOCH}")
    return args


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive whole number")
    return int(text)


def read_split(data: Path, name: str) -> Split:
    """Read the images of a split, normalised, and their nuclei as label maps."""
    from csbdeep.utils import normalize
    from PIL import Image

    coco = json.loads((data / "annotations" / f"dsb2018_{name}.json").read_text())
    nuclei = {record["id"]: [] for record in coco["images"]}
    for annotation in coco["annotations"]:
        nuclei[annotation["image_id"]].append(annotation["segmentation"])
    records = coco["images"]
    pixels = [np.asarray(Image.open(data / r["file_name"]).convert("RGB")) for r in records]
    return Split(
        stems=[Path(r["file_name"]).stem for r in records],
        images=[normalize(image, 1, 99.8, axis=(0, 1)) for image in pixels],
        labels=[label_map(nuclei[r["id"]], (r["height"], r["width"])) for r in records],
    )


def label_map(masks: list[dict], shape: tuple[int, int]) -> np.ndarray:
    """Number the COCO RLE masks from 1 on; of overlapping ones the last has the pixel."""
    from pycocotools import mask as coco_mask

    labels = np.zeros(shape, np.uint16)
    for number, rle in enumerate(masks, 1):
        labels[coco_mask.decode(rle) == 1] = number
    return labels


def pad_to(array: np.ndarray, side: int) -> np.ndarray:
    """Reflect the image at its lower and right edge until both sides have ``side`` pixels."""
    missing = [max(side - length, 0) for length in array.shape[:2]]
    return np.pad(array, [(0, n) for n in missing] + [(0, 0)] * (array.ndim - 2), "symmetric")


def augment(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn and flip both; change brightness and contrast of the image and add noise to it."""
    turns, flip = np.random.randint(4), np.random.randint(2)
    image, labels = (np.rot90(array, turns)[:: 1 - 2 * flip] for array in (image, labels))
    image = image * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2)
    return image + 0.02 * np.random.uniform() * np.random.normal(size=image.shape), labels


def load_stardist() -> dict[str, str]:
    """Import StarDist, held to one thread; return the versions of what it runs on."""
    os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"
    try:
        modules = [import_module(name) for name in ("stardist", "csbdeep", "tensorflow", "numpy")]
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error}: pip install {REQUIREMENTS}")
    threading = modules[2].config.threading
    threading.set_intra_op_parallelism_threads(1)
    threading.set_inter_op_parallelism_threads(1)
    return {module.__name__: module.__version__ for module in modules}


def train(args: argparse.Namespace, training: Split, validation: Split):
    """Train a new model in OUTPUT/stardist and return it with the weights of its best epoch."""
    import tensorflow as tf
    from stardist import fill_label_holes
    from stardist.models import Config2D, StarDist2D

    def padded(split):
        labels = [pad_to(fill_label_holes(labels), PATCH) for labels in split.labels]
        return [pad_to(image, PATCH) for image in split.images], labels

    tf.keras.utils.set_random_seed(0)
    patches = {"train_patch_size": (PATCH, PATCH), "train_batch_size": 4}
    epochs = args.steps // STEPS_PER_EPOCH
    length = {"train_steps_per_epoch": STEPS_PER_EPOCH, "train_epochs": epochs}
    network = {"n_rays": 32, "grid": (2, 2), "n_channel_in": 3}
    config = Config2D(**network, **patches, **length, train_tensorboard=False)
    model = StarDist2D(config, name="stardist", basedir=str(args.output))
    model.prepare_for_training()
    record = epoch_recorder(args.output / "stardist", args.snapshots)
    model.callbacks.append(tf.keras.callbacks.LambdaCallback(on_epoch_end=record))
    model.train(*padded(training), validation_data=padded(validation), augmenter=augment)
    return model


def epoch_recorder(folder: Path, snapshots: list[int]) -> Callable:
    """Return what, at the end of an epoch, writes training.json and copies the model if due."""
    clock, due = start_clock(), sorted(snapshots)

    def record(epoch: int, logs: dict) -> None:
        cost = {"steps": (epoch + 1) * STEPS_PER_EPOCH, **clock()}
        cost["val_loss"] = float(logs["val_loss"])
        (folder / "training.json").write_text(json.dumps(cost))
        print(json.dumps(cost), flush=True)
        while due and cost["cpu_s"] >= due[0]:
            shutil.copytree(folder, folder.with_name(f"{folder.name}_{due.pop(0)}s"))

    return record


def predict(model, split: Split, folder: Path) -> dict[str, float]:
    """Write the label maps of the images; return the seconds that finding the nuclei took."""
    from tifffile import imwrite

    folder.mkdir(parents=True)
    clock = start_clock()
    found = [model.predict_instances(image)[0] for image in split.images]
    seconds = clock()
    for stem, labels in zip(split.stems, found, strict=True):
        imwrite(folder / f"{stem}.tif", labels.astype(np.uint16), compression="zlib")
    return seconds


def main(argv) -> None:
    args = parse_args(argv[1:])
    cost = {"threads": 1, "versions": load_stardist()}
    from stardist.models import StarDist2D

    validation = read_split(args.data, "val")
    if args.model:
        folder = args.model.resolve()
        model = StarDist2D(None, name=folder.name, basedir=str(folder.parent))
    else:
        model = train(args, read_split(args.data, "train"), validation)
    cost["training"] = json.loads((Path(model.logdir) / "training.json").read_text())
    clock = start_clock()
    cost["thresholds"] = model.optimize_thresholds(validation.images, validation.labels)
    cost["choosing_thresholds"] = clock()
    cost["predicting"] = predict(model, validation, args.output / "labels")
    cost["images"] = len(validation.images)
    cost["predicting_cpu_s_per_image"] = cost["predicting"]["cpu_s"] / cost["images"]
    text = json.dumps(cost, indent=2)
    (args.output / "cost.json").write_text(text + "\n")
    print(text)
