"""Small images of every kind that packing tells apart."""

import cv2
import numpy as np


def noise(*shape, dtype=np.uint8):
    # Smooth, so that WebP is the smaller form wherever it is one.
    coarse = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (5, 6, *shape[2:]), dtype)
    return cv2.resize(coarse, shape[1::-1], interpolation=cv2.INTER_CUBIC)


def opaque(alpha):
    pixels = noise(64, 80, 4)
    pixels[:, :, 3] = 255
    pixels[0, 0, 3] = alpha
    return pixels


KINDS = {
    "gray": noise(64, 80),
    "colour": noise(64, 80, 3),
    "opaque": opaque(255),
    "not opaque": opaque(254),
    "16 bit": noise(64, 80, dtype=np.uint16),
}
