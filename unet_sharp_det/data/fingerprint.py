"""What the images and objects of a data set are like: what settings of a training go by."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..masks import SparseInstances

_QUANTILES = (5, 25, 50, 75, 95)


@dataclass
class Fingerprint:
    """Facts of a data set, an image at a time.

    Attributes:
        diameters: of the objects of each class, in pixels: those of circles of their areas.
        objects: in each image.
        touching: objects in each image that share a border with another one.
        shapes: (height, width) of each image in pixels.
        looks, kinds: of each image the look, and the type and number of channels of its file.
        intensities: of each image the percentiles 1, 50 and 99 of its file's values.
        pixel_sizes: of images that tell it, in micrometres.
    """

    diameters: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    objects: list[int] = field(default_factory=list)
    touching: list[int] = field(default_factory=list)
    shapes: list[tuple[int, int]] = field(default_factory=list)
    looks: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    intensities: list[list[float]] = field(default_factory=list)
    pixel_sizes: list[float] = field(default_factory=list)

    def add_objects(self, objects: SparseInstances, categories: Sequence[str]) -> None:
        """Add the objects of one image; categories: the name of each object's."""
        for category, area in zip(categories, objects.areas.tolist(), strict=True):
            self.diameters[category].append(2 * (area / np.pi) ** 0.5)
        self.objects.append(len(objects))
        self.touching.append(count_touching(objects.without_overlaps().label_map()))
        self.shapes.append(tuple(objects.shape))

    def add_pixels(self, pixels: np.ndarray, look: str, pixel_size: float | None) -> None:
        """Add the file's values (H, W, C) of one image."""
        self.looks.append(look)
        self.kinds.append(f"{pixels.dtype}, {pixels.shape[2]} channel(s)")
        self.intensities.append(np.percentile(pixels, (1, 50, 99)).tolist())
        if pixel_size is not None:
            self.pixel_sizes.append(pixel_size)

    def summary(self) -> dict:
        """Return what ``fingerprint.json`` holds: quantiles and counts of all images."""
        areas = [height * width for height, width in self.shapes]
        count = sum(self.objects)
        return {
            "images": len(self.shapes),
            "objects": count,
            "diameter_px": {name: _quantiles(each) for name, each in self.diameters.items()},
            "objects_per_image": {**_quantiles(self.objects), "largest": max(self.objects)},
            "touching_share": sum(self.touching) / max(1, count),
            "image_sides_px": {
                "smallest": min(map(min, self.shapes)),
                "median": float(np.median(areas)) ** 0.5,
                "largest": max(map(max, self.shapes)),
            },
            "looks": dict(Counter(self.looks)),
            "kinds": dict(Counter(self.kinds)),
            "intensity": dict(
                zip(("p1", "p50", "p99"), np.median(self.intensities, axis=0).tolist(), strict=True)
            ),
            "pixel_size_um": float(np.median(self.pixel_sizes)) if self.pixel_sizes else None,
        }


def count_touching(labels: np.ndarray) -> int:
    """Return how many objects of a label map (H, W) share a border, or a corner, with another."""
    touching = set()
    for rows, columns in ((0, 1), (1, 0), (1, 1), (1, -1)):
        first = labels[: labels.shape[0] - rows, max(0, -columns) :][:, : _width(labels, columns)]
        second = labels[rows:, max(0, columns) :][:, : _width(labels, columns)]
        differ = (first != second) & (first > 0) & (second > 0)
        touching.update(first[differ].tolist(), second[differ].tolist())
    return len(touching)


def _width(labels: np.ndarray, columns: int) -> int:
    return labels.shape[1] - abs(columns)


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    found = np.percentile(values, _QUANTILES) if len(values) else np.zeros(len(_QUANTILES))
    return {f"q{q:02d}": round(float(v), 1) for q, v in zip(_QUANTILES, found, strict=True)}
