"""What the images and objects of a data set are like: what settings of a training go by."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_QUANTILES = (1, 5, 25, 50, 75, 95)


@dataclass(frozen=True)
class ImageFacts:
    """Facts of one image.

    Attributes:
        shape: (height, width) in pixels.
        diameters: of its objects by class, in pixels: those of circles of their areas.
        look: see :func:`.guess_look`.
        channels: of the file.
        pixel_size: in micrometres; None: unknown.
    """

    shape: tuple[int, int]
    diameters: dict[str, list[float]]
    look: str
    channels: int
    pixel_size: float | None


def summarize(images: Sequence[ImageFacts]) -> dict:
    """Return what ``fingerprint.json`` holds: quantiles and counts of all images."""
    diameters = defaultdict(list)
    for image in images:
        for category, values in image.diameters.items():
            diameters[category] += values
    counts = [sum(map(len, image.diameters.values())) for image in images]
    areas = [height * width for height, width in (image.shape for image in images)]
    sides = [side for image in images for side in image.shape]
    pixel_sizes = [image.pixel_size for image in images if image.pixel_size is not None]
    return {
        "images": len(images),
        "objects": sum(counts),
        "diameter_px": {name: _quantiles(values) for name, values in sorted(diameters.items())},
        "objects_per_image": {**_quantiles(counts), "largest": max(counts)},
        "image_sides_px": {
            "smallest": min(sides),
            "median": float(np.median(areas)) ** 0.5,
            "largest": max(sides),
        },
        "looks": dict(Counter(image.look for image in images)),
        "channels": sorted({image.channels for image in images}),
        "pixel_size_um": float(np.median(pixel_sizes)) if pixel_sizes else None,
    }


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    found = np.percentile(values, _QUANTILES) if len(values) else np.zeros(len(_QUANTILES))
    return {f"q{q:02d}": round(float(v), 1) for q, v in zip(_QUANTILES, found, strict=True)}
