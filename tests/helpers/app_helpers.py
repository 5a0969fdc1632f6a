"""Analysers and a predictor that need no network, and images for them."""

import os
import time

import cv2
import numpy as np

from unet_sharp_det.app.analysis import Analyser
from unet_sharp_det.errors import UserError
from unet_sharp_det.masks.instances import SparseInstances

SHAPE = (96, 128)
#: Side of each square, in the order of their scores.
SIDES = (20, 16, 12, 8, 4)
SCORES = (0.9, 0.8, 0.6, 0.3, 0.1)


def squares() -> np.ndarray:
    """uint8 (H, W): a label map of squares, side by side, in the order of their scores."""
    labels = np.zeros(SHAPE, np.uint8)
    for number, side in enumerate(SIDES, 1):
        left = 24 * (number - 1) + 4
        labels[10 : 10 + side, left : left + side] = number
    return labels


def write_image(path):
    """Write an image in which the objects are as bright as their score; returns the path."""
    brightness = np.array([0, *SCORES]) * 250
    assert cv2.imwrite(str(path), brightness[squares()].astype(np.uint8))
    return path


class StubPredictor:
    """Finds the squares in any image of their size; `calls` holds the images it was given."""

    def __init__(self, class_names=("nucleus",)):
        self.class_names = class_names
        self.calls = []

    def predict_many(self, images, progress=lambda pixels: None):
        (image,) = images
        self.calls.append(image)
        if image.shape != SHAPE:
            return [UserError(f"{image.where}: is not of the size of the test.")]
        progress(SHAPE[0] * SHAPE[1])
        return [SparseInstances.from_label_map(squares(), SCORES).without_overlaps()]


class MisledAnalyser(Analyser):
    """Does with an image what its file's name says."""

    def inspect(self, path):
        return self._obey(path) or super().inspect(path)

    def find(self, view, progress=lambda fraction: None):
        return self._obey(view.path) or super().find(view, progress)

    def _obey(self, path):
        if path.stem == "hangs":
            time.sleep(1000)
        if path.stem == "grows":
            held = []
            while True:
                held.append(np.ones(2**22))
        if path.stem == "crashes":
            os.abort()
        if path.stem == "fails":
            raise ZeroDivisionError
