"""A run of the stub predictor, and what it leaves in the output folder."""

import csv

import cv2
import numpy as np
import tifffile
from stub_predictor import StubPredictor, spots

from unet_sharp_det.batch.inputs import RECORDS
from unet_sharp_det.batch.run import predict_files

OF_ALL = {"summary.csv", "predict.json", "predict.log", RECORDS, ".predict.lock"}


def write_images(folder):
    """Write i0.png to i5.png."""
    folder.mkdir()
    for number in range(6):
        cv2.imwrite(str(folder / f"i{number}.png"), spots(number))
    return folder


def run(images, output, predictor=None, outputs=("labels",), **options):
    predictor = predictor or StubPredictor()
    return predict_files(predictor, [images], output, outputs=outputs, **options)


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def contents(folder):
    return {name: (folder / name).read_bytes() for name in files(folder) - OF_ALL}


def rows(folder):
    with open(folder / "summary.csv", newline="") as file:
        return {row["image"] + row["plane"]: row for row in csv.DictReader(file)}


def write_stack(path, planes):
    tifffile.imwrite(path, np.stack(planes), imagej=True, metadata={"axes": "ZYX"})
