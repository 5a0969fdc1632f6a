"""Label maps of rectangles, and files of them."""

import cv2
import numpy as np
import tifffile
from evaluation_helpers import rectangle_mask


def label_map(boxes, dtype=np.uint16, size=(64, 64)):
    """A label map of boxes (x0, y0, x1, y1), ends exclusive."""
    labels = np.zeros(size, dtype)
    for number, box in enumerate(boxes, start=1):
        labels[rectangle_mask(*size, box)] = number
    return labels


def save(path, labels):
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, labels)
    elif path.suffix == ".png":
        cv2.imwrite(str(path), labels)
    else:
        tifffile.imwrite(path, labels)
