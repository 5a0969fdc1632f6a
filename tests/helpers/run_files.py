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
    """The files below a folder; an OME-Zarr is one."""
    paths = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    whole = {next((p for p in each.parents if p.suffix == ".zarr"), each) for each in paths}
    return {path.as_posix() for path in whole}


def contents(folder):
    """The bytes of each file that :func:`files` names, or of all that an OME-Zarr holds."""
    return {name: content_of(folder / name) for name in files(folder) - OF_ALL}


def content_of(path):
    if path.is_file():
        return path.read_bytes()
    return {each.relative_to(path): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def rows(folder):
    with open(folder / "summary.csv", newline="") as file:
        return {row["image"] + row["plane"]: row for row in csv.DictReader(file)}


def write_stack(path, planes):
    tifffile.imwrite(path, np.stack(planes), imagej=True, metadata={"axes": "ZYX"})
