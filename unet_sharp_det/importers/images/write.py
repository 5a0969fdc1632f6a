"""Samples of any format, checked and stored: a COCO json file per split, and ``dataset.json``."""

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
from tqdm import tqdm

from ...data.fingerprint import summarize
from ...data.folders import DATASET_FILE
from ...errors import DatasetError, counted
from ...files import atomic_path, unused_name, write_json
from ...masks.drawing import montage
from ..origin import RECORD_FILE, read_record
from .check import QUIRKS, ImportedImage, count_quirks, read_sample
from .samples import Sample
from .splits import assign_splits, grouping

_SHOWN = 8


@dataclass(frozen=True)
class ImageSummary:
    """What an import found; its text is for the user.

    Attributes:
        folder: that was written.
        empty_classes: names of which there is no object.
        skipped: ``name: why`` of images that were left out.
    """

    folder: Path
    why: str
    counts: dict[str, tuple[int, int]]
    classes: list[str]
    empty_classes: list[str]
    quirks: dict[str, int]
    skipped: tuple[str, ...]
    split_rule: str

    def __str__(self) -> str:
        name = self.folder.resolve().name
        lines = [f"Format: {self.why}."]
        for split, (images, objects) in self.counts.items():
            amounts = counted(images, "image"), counted(objects, "object")
            lines.append(f"{name}_{split}: {', '.join(amounts)}.")
        lines.append(f"Split: {self.split_rule}.")
        lines.append(f"Classes: {', '.join(self.classes)}.")
        lines += [f"No object of the class {name}: left out." for name in self.empty_classes]
        lines += [
            f"{count} x {quirk}: {QUIRKS[quirk]}." for quirk, count in self.quirks.items() if count
        ]
        if self.skipped:
            lines += [f"Left out {len(self.skipped)}:", *(f"  {line}" for line in self.skipped)]
        if "val" in self.counts:
            then = f"then: unet-sharp-det fit {name} --output run"
        else:
            then = "and import another image or group, too, or give --val: fit needs it"
        lines.append(f"Look at {self.folder / 'preview.png'}, {then}")
        return "\n".join(lines)


def write_images(
    samples: Iterable[Sample],
    source,
    output,
    *,
    why: str,
    has_numbers: bool = False,
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
        has_numbers: classes may have numbers as names; if there is but one, it is "object".
        copy: copy images to ``output/images``; else they stay where they are, arrays apart.
        group: a regular expression, or a CSV file of names and groups: images of a group, e.g. a
            patient, go to one split. None: each image is a group of its own.
        strict: write nothing if an image cannot be used, or anything is odd.

    Raises:
        DatasetError: ``output`` holds something else, no image can be used, or ``strict`` refuses.
    """
    output = Path(output)
    origin = {"kind": "images", "source": str(Path(source).resolve())}
    read_record(output, origin)
    group_of = grouping(group)
    images, skipped = [], []
    for sample in tqdm(list(samples), unit="image", desc="import"):
        try:
            images.append(read_sample(sample, with_picture=len(images) < _SHOWN))
        except DatasetError as error:
            skipped.append(f"{sample.name}: {error}")
    if not any(image.annotations for image in images):
        first = f" The first: {skipped[0]}" if skipped else ""
        raise DatasetError(f"{source}: holds no object that can be used.{first}")
    quirks = count_quirks(images)
    classes = sorted({each["category"] for image in images for each in image.annotations})
    if has_numbers and len(classes) == 1:
        classes = ["object"]
        for image in images:
            for each in image.annotations:
                each["category"] = "object"
    told = {name for image in images for name in image.sample.categories}
    empty_classes = sorted(told.difference(classes))
    if strict and (skipped or empty_classes or any(quirks.values())):
        found = [*skipped, *(f"no object of {name}" for name in empty_classes)]
        found += [f"{count} x {quirk}" for quirk, count in quirks.items() if count]
        raise DatasetError(f"--strict: nothing was written. {'; '.join(found)}")
    splits, rule = assign_splits([image.sample for image in images], group_of)
    write_json(output / RECORD_FILE, origin)
    root = _store(images, output, copy)
    counts, files = {}, {}
    for split in ("train", "val", "test"):
        chosen = [each for each, of_split in zip(images, splits, strict=True) if of_split == split]
        if chosen:
            content = _to_coco(chosen, classes)
            files[split] = f"annotations/{split}.json"
            write_json(output / files[split], content)
            counts[split] = (len(chosen), len(content["annotations"]))
    train = [each for each, split in zip(images, splits, strict=True) if split == "train"]
    facts = [each.facts() for each in train or images]
    write_json(output / "fingerprint.json", summarize(facts), indent=1)
    with atomic_path(output / "preview.png") as temporary:
        picture = montage([each.picture for each in images[:_SHOWN]], columns=4, cell_width=360)
        cv2.imwrite(str(temporary), picture[:, :, ::-1])
    content = {"name": output.resolve().name, "source": origin["source"], "format": why}
    content |= {"classes": classes, "image_root": root, "splits": files}
    write_json(output / DATASET_FILE, content, indent=1)
    return ImageSummary(output, why, counts, classes, empty_classes, quirks, tuple(skipped), rule)


def _store(images: Sequence[ImportedImage], output: Path, copy: bool) -> str:
    """Give each image its ``file_name``, copy it if it is to be, and return the root of all."""
    if not copy and all(isinstance(image.sample.image, Path) for image in images):
        paths = [image.sample.image.resolve() for image in images]
        root = Path(os.path.commonpath([path.parent for path in paths]))
        for image, path in zip(images, paths, strict=True):
            image.entry["file_name"] = path.relative_to(root).as_posix()
        return str(root)
    for image, stem in zip(images, _unique_stems(images), strict=True):
        source = image.sample.image
        name = image.entry["file_name"] = f"{stem}{'.png' if callable(source) else source.suffix}"
        with atomic_path(output / "images" / name) as temporary:
            if callable(source):
                pixels = source()
                cv2.imwrite(str(temporary), pixels[:, :, ::-1] if pixels.ndim == 3 else pixels)
            else:
                shutil.copyfile(source, temporary)
    return "images"


def _unique_stems(images: Sequence[ImportedImage]) -> Iterator[str]:
    seen = set()
    for image in images:
        stem = unused_name(re.sub(r"[^\w.-]+", "_", image.sample.name), seen.__contains__)
        seen.add(stem)
        yield stem


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
