"""Find nuclei with one program, in a process of its own; prints what each image cost, as JSON.

python -m benchmarks.finder_worker stardist FOLDER_OF_MODEL IMAGES [--labels DIR]
python -m benchmarks.finder_worker unet_sharp_det nuclei IMAGES [--labels DIR]

CPU seconds, or with NAME:cuda those of the clock. The first image is found twice, for what is done
once. Reading files and imports are not counted.
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

CUDA = "cuda"


def stardist(model: str) -> Callable[[np.ndarray], np.ndarray]:
    from benchmarks.stardist import load_stardist

    load_stardist()
    from csbdeep.utils import normalize
    from stardist.models import StarDist2D

    folder = Path(model).resolve()
    network = StarDist2D(None, name=folder.name, basedir=str(folder.parent))
    return lambda image: network.predict_instances(normalize(image, 1, 99.8, axis=(0, 1)))[0]


def unet_sharp_det(model: str) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    from unet_sharp_det.prediction import PredictionOptions, Predictor
    from unet_sharp_det.prediction.options import AUTO

    torch.set_num_threads(1)
    name, *variants = model.split(":")
    level, given, device = [], {}, "cpu"
    for variant in variants:
        if variant.startswith("L"):
            level = ["TEST.PRUNE_TO_LEVEL", variant[1:]]
        elif variant.startswith("x"):
            given["scale"] = AUTO if variant[1:] == AUTO else float(variant[1:])
        elif variant == "tta":
            given["tta"] = True
        elif variant == CUDA:
            device = CUDA
        else:
            given["precision"] = variant
    options = PredictionOptions(**given)
    opening = {"device": device, "config_opts": level}
    predict = Predictor.from_checkpoint(name, options=options, **opening)
    return lambda image: predict(image).label_map()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", choices=["stardist", "unet_sharp_det"])
    parser.add_argument("model")
    parser.add_argument("images", type=Path, help="folder of .npy files (H, W, 3)")
    parser.add_argument("--labels", type=Path, help="folder for label maps, .npy")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    find = {"stardist": stardist, "unet_sharp_det": unet_sharp_det}[args.program](args.model)
    files, seconds = sorted(args.images.glob("*.npy")), []
    clock = time.perf_counter if CUDA in args.model.split(":") else time.process_time
    find(np.load(files[0]))
    for file in files:
        image = np.load(file)
        start = clock()
        labels = find(image)
        seconds.append(clock() - start)
        if args.labels:
            np.save(args.labels / file.name, labels)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu_s": seconds, "peak_mib": peak}))


if __name__ == "__main__":
    main()
