"""A predictor without a network, and images of any kind for it."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import tifffile
from scipy import ndimage

from unet_sharp_det.errors import UserError
from unet_sharp_det.masks.instances import SparseInstances


@dataclass(frozen=True)
class Options:
    score_threshold: float = 0.5
    batch_size: int = 2


class StubPredictor:
    """Finds what is brighter than the middle of an image; keeps the names of what it was given."""

    def __init__(self, before=lambda source: None, **options):
        """
        Args:
            before: called with each image; what it raises is what prediction raises.
            options: fields of :class:`Options`.
        """
        self.options = replace(Options(), **options)
        self.image_format = "RGB"
        self.stretch_contrast = False
        self.pixel_size = 0.0
        self.own_score_threshold = 0.5
        self.class_names = ("nucleus",)
        self.calls = []
        self._before = before

    @property
    def seen(self):
        return [name for call in self.calls for name in call]

    def find(self, source, progress=lambda pixels: None):
        (found,) = self.predict_many([source], progress)
        return found, 1 / 2 ** len(self.calls), 20 * 2 ** len(self.calls)

    def predict_many(self, sources, progress=lambda pixels: None):
        self.calls.append([source.name for source in sources])
        found = []
        for source in sources:
            self._before(source)
            height, width = source.shape
            try:
                image = source.window(slice(0, height), slice(0, width)).max(axis=2)
            except UserError as error:
                found.append(error)
                continue
            labels, count = ndimage.label(image > (image.max() / 2 + image.min() / 2))
            scores = np.linspace(0.9, 0.6, count)
            found.append(SparseInstances.from_label_map(labels, scores))
            progress(height * width)
        return found


def spots(seed, height=40, width=50, count=4):
    """Return uint8 (height, width) with bright squares that do not touch."""
    image = np.random.default_rng(seed).integers(0, 50, (height, width)).astype(np.uint8)
    for number in range(count):
        y, x = 4 + 18 * (number // 2), 4 + 22 * (number % 2)
        image[y : y + 6 + number, x : x + 5] = 200 + seed % 50
    return image


def write_mixed_folder(folder):
    """Write images of many kinds and two broken ones; return how many planes the good ones have."""
    folder.mkdir()
    gray = spots(0)
    colour = np.stack([gray, gray // 2, gray // 3], axis=2)
    cv2.imwrite(str(folder / "gray8.png"), gray)
    cv2.imwrite(str(folder / "gray16.png"), gray.astype(np.uint16) * 200)
    cv2.imwrite(str(folder / "rgb.png"), colour)
    cv2.imwrite(str(folder / "rgba.png"), np.dstack([colour, np.full_like(gray, 255)]))
    cv2.imwrite(str(folder / "photo.jpg"), colour)
    tifffile.imwrite(folder / "float.tif", gray.astype(np.float32) / 255)
    stack = np.stack([spots(seed) for seed in range(3)])
    tifffile.imwrite(folder / "pages.tif", stack, metadata={"axes": "ZYX"}, imagej=True)
    ome = {"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    ome |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(folder / "time.ome.tif", stack[:2], metadata=ome)
    whole = (folder / "gray8.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.tif").write_text("no image")
    return {
        "float": 1,
        "gray16": 1,
        "gray8": 1,
        "pages": 3,
        "photo": 1,
        "rgb": 1,
        "rgba": 1,
        "time.ome": 2,
    }
