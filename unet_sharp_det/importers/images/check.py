"""A sample, read and checked: what the data set holds of it, and what is odd about it."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pycocotools.mask as mask_util

from ...data.dsb2018_read import mask_quirks
from ...data.fingerprint import ImageFacts
from ...errors import library_errors
from ...images.decoding import only_plane
from ...images.intensity import to_picture
from ...images.looks import guess_look
from ...images.source import ImageSource, ReadOptions, from_array, open_image
from ...masks import SparseInstances, mask_areas, to_rles
from ...masks.drawing import distinct_colors, draw_label_contours
from .samples import Sample

SPECK = 16
_ALL = slice(None)


QUIRKS = {
    "no objects": "image kept as background",
    "empty mask": "object left out",
    "same mask twice": "second object left out",
    "several parts": "object kept as it is",
    "holes": "object kept as it is",
    f"under {SPECK} pixels": "object kept",
    "overlapping": "image kept; each object keeps its pixels",
    "same image twice": "both images kept",
}


@dataclass
class ImportedImage:
    """An image that was read: its COCO entries without ids, and what is odd about it."""

    sample: Sample
    entry: dict
    annotations: list[dict]
    channels: int  # of the file
    pixel_size: float | None  # in micrometres
    picture: np.ndarray | None  # uint8 (H, W, 3) with contours, of the first few
    quirks: Counter = field(default_factory=Counter)

    def facts(self) -> ImageFacts:
        """Return those of the image and of its single objects."""
        diameters = defaultdict(list)
        for each in self.annotations:
            if not each["iscrowd"]:
                diameters[each["category"]].append(2 * (each["area"] / np.pi) ** 0.5)
        shape, look = (self.entry["height"], self.entry["width"]), self.entry["look"]
        return ImageFacts(shape, dict(diameters), look, self.channels, self.pixel_size)


def read_sample(sample: Sample, with_picture: bool) -> ImportedImage:
    """Read an image and its objects; raise a DatasetError if it cannot be used."""
    source = _open(sample)
    with library_errors("its annotations cannot be read", "Export them again."):
        objects = sample.read(source.shape)
    quirks = Counter()
    rles = to_rles(
        [each["segmentation"] for each in objects],
        source.shape,
        lambda index: f"{sample.name}: object {index} (counted from 0)",
    )
    kept, seen = [], set()
    for each, rle, area in zip(objects, rles, mask_areas(rles).tolist(), strict=True):
        key = (each["category"], rle["counts"])
        if not area or key in seen:
            quirks["same mask twice" if area else "empty mask"] += 1
            continue
        seen.add(key)
        place = {"bbox": mask_util.toBbox(rle).tolist(), "area": area, "segmentation": rle}
        kept.append({"category": each["category"], "iscrowd": each.get("iscrowd", 0), **place})
    single = [each for each in kept if not each["iscrowd"]]
    masks = SparseInstances.from_rles(
        [each["segmentation"] for each in single], source.shape, np.ones(len(single))
    )
    pixels = source.window(_ALL, _ALL)
    picture = to_picture(source)
    look = guess_look(picture)
    pixel_size = source.pixel_size and source.pixel_size[0]
    visible = masks.without_overlaps()
    for mask in masks.masks:
        kinds = mask_quirks(mask.view(np.uint8))
        quirks["several parts"] += "multi_component_mask" in kinds
        quirks["holes"] += "holed_mask" in kinds
    quirks[f"under {SPECK} pixels"] += int((masks.areas < SPECK).sum())
    quirks["overlapping"] += int(visible.areas.sum() < masks.areas.sum())
    quirks["no objects"] += not kept
    height, width = source.shape
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    entry = {"height": height, "width": width, "look": look, "digest": digest}
    drawn = None
    if with_picture:
        colours = distinct_colors(len(visible))
        drawn = draw_label_contours(picture, visible.label_map(), colours)
    return ImportedImage(sample, entry, kept, pixels.shape[2], pixel_size, drawn, quirks)


def _open(sample: Sample) -> ImageSource:
    if sample.image is None:
        sample.read((0, 0))  # Which says why.
    if callable(sample.image):
        return from_array(sample.image(), sample.name, all_channels=True)
    planes = open_image(sample.image, ReadOptions(channels=(0,)))
    return only_plane(planes, sample.image).with_all_channels()


def count_quirks(images: Sequence[ImportedImage]) -> dict[str, int]:
    """Return how often each of ``QUIRKS`` was seen."""
    total = sum((image.quirks for image in images), Counter())
    digests = Counter(image.entry.pop("digest") for image in images)
    total["same image twice"] = sum(count - 1 for count in digests.values())
    return {quirk: total[quirk] for quirk in QUIRKS}
