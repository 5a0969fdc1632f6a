"""Analysers and a predictor that need no network, and images for them."""

import contextlib
import os
import threading
import time

import cv2
import numpy as np

from unet_sharp_det.app.analysis import Analyser
from unet_sharp_det.errors import UserError
from unet_sharp_det.masks.instances import SparseInstances
from unet_sharp_det.prediction.fitting_scale import fitting_scale

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
    """Finds the squares in any image of their size, as if a diameter of 46 pixels were measured.

    `calls` holds the images that it was given, and `diameters` what else was known of each.
    """

    def __init__(self, class_names=("nucleus",), missing=()):
        self.class_names = class_names
        self.missing = missing  # numbers of squares that it does not find
        self.calls = []
        self.diameters = []

    def find(self, image, progress, diameter):
        self.calls.append(image)
        self.diameters.append(diameter)
        if image.shape != SHAPE:
            raise UserError(f"{image.where}: is not of the size of the test.")
        progress(SHAPE[0] * SHAPE[1])
        labels = squares()
        scores = [score for number, score in enumerate(SCORES, 1) if number not in self.missing]
        labels[np.isin(labels, self.missing)] = 0
        found = SparseInstances.from_label_map(labels, scores).without_overlaps()
        return found, fitting_scale(diameter or 46, diameter=20), diameter or 46


class Waiting:
    """Waits for a search and notes what it is told."""

    def __init__(self):
        self.stopped = threading.Event()
        self.fractions = []

    def report(self, fraction):
        self.fractions.append(fraction)


class PlainAnalyser(Analyser):
    """Does in this process what others do; `held` is a lock that holds searches up."""

    held = contextlib.nullcontext()

    def find(self, view, search, folder, waiting):
        with self.held:
            return super().find(view, search, folder, waiting.report)


class MisledAnalyser(Analyser):
    """Does with an image what its file's name says."""

    def inspect(self, path):
        return self._obey(path) or super().inspect(path)

    def find(self, view, search, folder, progress=lambda fraction: None):
        if view.path.stem == "tiles":
            for fraction in range(1000):
                time.sleep(0.01)
                progress(fraction / 1000)
        return self._obey(view.path) or super().find(view, search, folder, progress)

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


def wait_for_count(page, count):
    page.wait_for_selector(f"#numbers dd >> nth=0 >> text=/^{count}$/")


def find_in_example(page):
    page.click("#example")
    page.click("#find:enabled")
    wait_for_count(page, 3)
