"""Samples of any format, checked and stored: a COCO json file per split, and ``dataset.json``."""

import csv
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
from tqdm import tqdm

from ...data.dsb2018_read import mask_quirks
from ...data.fingerprint import ImageFacts, summarize
from ...data.folders import DATASET_FILE, check_origin
from ...errors import DatasetError
from ...files import atomic_path, write_json
from ...images.intensity import to_picture
from ...images.looks import guess_look
from ...images.source import ImageSource, ReadOptions, from_array, open_image
from ...masks import SparseInstances, mask_areas, to_rles
from ...masks.drawing import distinct_colors, draw_label_contours, montage
from .samples import Sample

#: Of images that no split is told of, the share of validation.
VAL_SHARE = 0.2
SPECK = 16
_SHOWN = 8
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
    facts: ImageFacts
    picture: np.ndarray | None  # uint8 (H, W, 3) with contours, of the first few
    quirks: Counter = field(default_factory=Counter)


@dataclass(frozen=True)
class ImageSummary:
    """What an import found; its text is for the user.

    Attributes:
        folder: that was written.
        skipped: ``name: why`` of images that were left out.
    """

    folder: Path
    why: str
    counts: dict[str, tuple[int, int]]
    classes: list[str]
    quirks: dict[str, int]
    skipped: tuple[str, ...]
    split_rule: str

    def __str__(self) -> str:
        name = self.folder.resolve().name
        lines = [f"Format: {self.why}."]
        for split, (images, objects) in self.counts.items():
            lines.append(f"{name}_{split}: {images} images, {objects} objects.")
        lines.append(f"Split: {self.split_rule}.")
        lines.append(f"Classes: {', '.join(self.classes)}.")
        lines += [
            f"{count} x {quirk}: {QUIRKS[quirk]}." for quirk, count in self.quirks.items() if count
        ]
        if self.skipped:
            lines += [f"Left out {len(self.skipped)}:", *(f"  {line}" for line in self.skipped)]
        lines.append(f"Look at {self.folder / 'preview.png'}.")
        return "\n".join(lines)


def write_images(
    samples: Iterable[Sample],
    source,
    output,
    *,
    why: str,
    copy: bool = False,
    group: str | None = None,
    strict: bool = False,
) -> ImageSummary:
    """Check samples, and write ``annotations/<split>.json``, ``fingerprint.json``, ``preview.png``
    and at last ``dataset.json`` to ``output``, whose name becomes the data set's.

    Images that cannot be used are left out.

    Args:
        source: that the samples are of; the same one may be imported again.
        why: the format, and why it was taken.
        copy: copy images to ``output/images``; else they stay where they are, arrays apart.
        group: a regular expression, or a CSV file of names and groups: images of a group, e.g. a
            patient, go to one split. None: each image is a group of its own.
        strict: write nothing if an image cannot be used, or anything is odd.

    Raises:
        DatasetError: ``output`` holds something else, no image can be used, or ``strict`` refuses.
    """
    output = Path(output)
    origin = {"source": str(Path(source).resolve())}
    check_origin(output, origin)
    group_of = _grouping(group)
    images, skipped = [], []
    for sample in tqdm(list(samples), unit="image", desc="import"):
        try:
            images.append(_read(sample, with_picture=len(images) < _SHOWN))
        except DatasetError as error:
            skipped.append(f"{sample.name}: {error}")
    if not any(image.annotations for image in images):
        first = f" The first: {skipped[0]}" if skipped else ""
        raise DatasetError(f"{source}: holds no object that can be used.{first}")
    quirks = _count_quirks(images)
    if strict and (skipped or any(quirks.values())):
        found = [*skipped, *(f"{count} x {quirk}" for quirk, count in quirks.items() if count)]
        raise DatasetError(f"--strict: nothing was written. {'; '.join(found)}")
    splits, rule = _assign_splits(images, group_of)
    root = _store(images, output, copy)
    classes = _classes(images)
    counts, files = {}, {}
    for split in ("train", "val", "test"):
        chosen = [each for each, of_split in zip(images, splits, strict=True) if of_split == split]
        if chosen:
            content = _to_coco(chosen, classes)
            files[split] = f"annotations/{split}.json"
            write_json(output / files[split], content)
            counts[split] = (len(chosen), len(content["annotations"]))
    train = [each.facts for each, split in zip(images, splits, strict=True) if split == "train"]
    write_json(
        output / "fingerprint.json", summarize(train or [each.facts for each in images]), indent=1
    )
    with atomic_path(output / "preview.png") as temporary:
        picture = montage([each.picture for each in images[:_SHOWN]], columns=4, cell_width=360)
        cv2.imwrite(str(temporary), picture[:, :, ::-1])
    content = {"name": output.resolve().name, **origin, "format": why, "classes": classes}
    content |= {"image_root": root, "splits": files}
    write_json(output / DATASET_FILE, content, indent=1)
    return ImageSummary(output, why, counts, classes, quirks, tuple(skipped), rule)


def _read(sample: Sample, with_picture: bool) -> ImportedImage:
    source = _open(sample)
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
    categories = [each["category"] for each in single]
    pixel_size = source.pixel_size and source.pixel_size[0]
    visible = masks.without_overlaps()
    labels = visible.label_map()
    facts = ImageFacts.of(pixels, masks, categories, labels, look, pixel_size)
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
    if with_picture:
        picture = draw_label_contours(picture, labels, distinct_colors(len(visible)))
    return ImportedImage(sample, entry, kept, facts, picture if with_picture else None, quirks)


def _open(sample: Sample) -> ImageSource:
    if sample.image is None:
        sample.read((0, 0))  # Which says why.
    if isinstance(sample.image, np.ndarray):
        return from_array(sample.image, sample.name, all_channels=True)
    source, *others = open_image(sample.image, ReadOptions(channels=(0,)))
    if others or source.series_count > 1:
        raise DatasetError(f"{sample.image}: has several images. Save files of their own.")
    return source.with_all_channels()


def _count_quirks(images: Sequence[ImportedImage]) -> dict[str, int]:
    total = sum((image.quirks for image in images), Counter())
    digests = Counter(image.entry.pop("digest") for image in images)
    total["same image twice"] = sum(count - 1 for count in digests.values())
    return {quirk: total[quirk] for quirk in QUIRKS}


def _grouping(group: str | None) -> Callable[[str], str]:
    """Return the function from an image's name to its group."""
    if group is None:
        return lambda name: name
    if group.lower().endswith(".csv"):
        if not os.path.isfile(group):
            raise DatasetError(f"--group: there is no file {group}. Give names and groups in it.")
        with open(group, newline="", encoding="utf-8-sig") as file:
            table = {Path(row[0]).stem: row[1] for row in csv.reader(file) if len(row) > 1}
        return lambda name: _found(table.get(Path(name).name), name, group)
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise DatasetError(f"--group {group}: is no regular expression ({error}).") from error

    def find(name: str) -> str:
        match = pattern.search(name)
        return _found(match and match[min(1, pattern.groups)], name, group)

    return find


def _found(group: str | None, name: str, where: str) -> str:
    if group is None:
        raise DatasetError(f"--group {where}: says nothing of '{name}'. Cover all images.")
    return group


def _assign_splits(
    images: Sequence[ImportedImage], group_of: Callable[[str], str]
) -> tuple[list[str], str]:
    """Return the split of each image, and the rule in words."""
    told = [image.sample.split for image in images]
    if all(told):
        if "val" not in told:
            told = ["val" if split == "test" else split for split in told]
        return told, "as the names of folders or files say"
    groups = [group_of(image.sample.name) for image in images]
    ranks = {group: _rank(group) for group in groups}
    val = {group for group, rank in ranks.items() if rank < VAL_SHARE}
    if not val and len(ranks) > 1:
        val = {min(ranks, key=ranks.get)}
    if len(val) == len(ranks) > 1:
        val.remove(max(ranks, key=ranks.get))
    rule = f"by a hash of names, about {VAL_SHARE:.0%} to val"
    return ["val" if group in val else "train" for group in groups], rule


def _rank(group: str) -> float:
    """Return a number from 0 to 1, the same for a name at any time."""
    return int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 16**8


def _store(images: Sequence[ImportedImage], output: Path, copy: bool) -> str:
    """Give each image its ``file_name``, copy it if it is to be, and return the root of all."""
    if not copy and all(isinstance(image.sample.image, Path) for image in images):
        paths = [image.sample.image.resolve() for image in images]
        root = Path(os.path.commonpath([path.parent for path in paths]))
        for image, path in zip(images, paths, strict=True):
            image.entry["file_name"] = path.relative_to(root).as_posix()
        return str(root)
    for image, stem in zip(images, _unique_stems(images), strict=True):
        pixels = image.sample.image
        suffix = ".png" if isinstance(pixels, np.ndarray) else pixels.suffix
        image.entry["file_name"] = f"{stem}{suffix}"
        with atomic_path(output / "images" / f"{stem}{suffix}") as temporary:
            if isinstance(pixels, np.ndarray):
                cv2.imwrite(str(temporary), pixels[:, :, ::-1] if pixels.ndim == 3 else pixels)
            else:
                temporary.write_bytes(pixels.read_bytes())
    return "images"


def _unique_stems(images: Sequence[ImportedImage]) -> Iterator[str]:
    seen = Counter()
    for image in images:
        stem = re.sub(r"[^\w.-]+", "_", image.sample.name)
        seen[stem] += 1
        yield stem if seen[stem] == 1 else f"{stem}_{seen[stem]}"


def _classes(images: Sequence[ImportedImage]) -> list[str]:
    return sorted({each["category"] for image in images for each in image.annotations})


def _to_coco(images: Sequence[ImportedImage], classes: Sequence[str]) -> dict:
    ids = {name: number for number, name in enumerate(classes, 1)}
    content = defaultdict(list)
    content["categories"] = [{"id": number, "name": name} for name, number in ids.items()]
    for number, image in enumerate(images, 1):
        content["images"].append({"id": number, **image.entry})
        for each in image.annotations:
            entry = {"id": len(content["annotations"]) + 1, "image_id": number, **each}
            entry["category_id"] = ids[entry.pop("category")]
            content["annotations"].append(entry)
    return {key: content[key] for key in ("images", "annotations", "categories")}
