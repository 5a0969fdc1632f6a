"""Reading one image of DSB2018 with its nuclei, and naming whatever is odd about its files.

Layout and format: https://bbbc.broadinstitute.org/BBBC038 (2018 Data Science Bowl, stage1_train).
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..errors import DatasetError
from ..images.decoding import read_stored
from ..masks import encode_mask


class Quirk(NamedTuple):
    """What the converter does about one kind of oddity.

    Attributes:
        effect: ``harmless``: nothing is odd for a model; ``kept``: kept and counted; ``dropped``:
            the mask carries no information and is left out; ``skipped``: the file is rotten.
        policy: the same in words, for the report.
    """

    effect: str
    policy: str


QUIRKS = {
    "rgba": Quirk("harmless", "opaque alpha channel; dropped on reading"),
    "grayscale": Quirk("harmless", "one channel; repeated on reading"),
    "alpha_not_opaque": Quirk("kept", "alpha channel that varies; dropped on reading all the same"),
    "sixteen_bit": Quirk("kept", "more than 8 bit; rescaled by percentiles on reading"),
    "no_masks": Quirk("kept", "image without mask files; kept as an image without nuclei"),
    "duplicate_image": Quirk("kept", "same pixels as another id; kept, since the split goes by id"),
    "holed_mask": Quirk("kept", "nucleus with holes; kept as it is"),
    "multi_component_mask": Quirk("kept", "nucleus in several 8-connected parts; kept as one"),
    "non_binary_mask": Quirk("kept", "more than one value above 0; every value above 0 is nucleus"),
    "overlapping_masks": Quirk("kept", "pixels that several nuclei claim; kept in each of them"),
    "empty_mask": Quirk("dropped", "mask without a pixel"),
    "duplicate_mask": Quirk("dropped", "same pixels as an earlier mask of the image"),
    "mask_shape": Quirk("skipped", "mask of another size than its image"),
    "unreadable_mask": Quirk("skipped", "file among the masks that cannot be decoded"),
    "unreadable_image": Quirk("skipped", "image that cannot be decoded; its masks are not read"),
    "missing_image": Quirk("skipped", "folder without images/<id>.png; its masks are not read"),
    "other_file": Quirk("skipped", "neither images/<id>.png nor in masks/"),
    "bad_id": Quirk("skipped", "folder whose name is no hexadecimal id, which the split goes by"),
}


@dataclass
class Sample:
    """One image with its nuclei.

    Attributes:
        dsb_id: the name of its folder.
        height, width: in pixels; 0 if the image is unreadable.
        digest: hash of the decoded pixels without alpha, equal for duplicates; "" if unreadable.
        nuclei: per nucleus COCO's ``bbox`` (XYWH, pixels), ``area`` (pixels) and ``segmentation``
            (compressed RLE), in the order of the mask files' names.
        quirks: pairs (key of :data:`QUIRKS`, what is affected: an id or a path below the input).
    """

    dsb_id: str
    height: int = 0
    width: int = 0
    digest: str = ""
    nuclei: list[dict] = field(default_factory=list)
    quirks: list[tuple[str, str]] = field(default_factory=list)

    @property
    def readable(self) -> bool:
        return self.height > 0


def read_sample(folder) -> Sample:
    """Read ``images/<id>.png`` and ``masks/*`` of a folder ``<id>``; other and rotten files become
    quirks, but for hidden ones."""
    folder = Path(folder)
    sample = Sample(folder.name)
    image = folder / "images" / f"{folder.name}.png"
    expected = {image, image.parent, folder / "masks"}
    for path in (*folder.glob("[!.]*"), *image.parent.glob("[!.]*")):
        if path not in expected:
            sample.quirks.append(("other_file", path.relative_to(folder.parent).as_posix()))
    if not image.is_file():
        sample.quirks.append(("missing_image", sample.dsb_id))
        return sample
    try:
        pixels = read_stored(image)
    except DatasetError:
        sample.quirks.append(("unreadable_image", image.relative_to(folder.parent).as_posix()))
        return sample
    sample.height, sample.width = pixels.shape[:2]
    colours = _colours(pixels)
    content = repr(colours.shape).encode() + colours.tobytes()
    sample.digest = hashlib.sha256(content).hexdigest()
    sample.quirks += [(kind, sample.dsb_id) for kind in _image_quirks(pixels)]
    _read_masks(folder, sample)
    return sample


def _image_quirks(pixels: np.ndarray) -> list[str]:
    """Of a decoded image, (H, W) or (H, W, 2 to 4), alpha the last."""
    kinds = []
    if _colours(pixels).ndim == 2:
        kinds.append("grayscale")
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        opaque = pixels[:, :, -1].min() == np.iinfo(pixels.dtype).max
        kinds.append("rgba" if opaque else "alpha_not_opaque")
    if pixels.dtype != np.uint8:
        kinds.append("sixteen_bit")
    return kinds


def mask_quirks(values: np.ndarray) -> list[str]:
    """Return the keys of :data:`QUIRKS` that hold for a mask (H, W), cropped to the box of its
    values above 0."""
    kinds = []
    if ((values > 0) & (values < values.max())).any():
        kinds.append("non_binary_mask")
    binary = (values > 0).view(np.uint8)
    # Two levels: outlines of the 8-connected parts have no parent, those of holes have one.
    _, hierarchy = cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    has_parent = hierarchy.reshape(-1, 4)[:, 3] >= 0
    if has_parent.any():
        kinds.append("holed_mask")
    if (~has_parent).sum() > 1:
        kinds.append("multi_component_mask")
    return kinds


def _read_masks(folder: Path, sample: Sample) -> None:
    paths = sorted((folder / "masks").glob("[!.]*"))
    if not paths:
        sample.quirks.append(("no_masks", sample.dsb_id))
    claims = np.zeros((sample.height, sample.width), np.uint16)
    seen = set()
    for path in paths:
        kinds, nucleus = _read_nucleus(path, claims, seen)
        name = path.relative_to(folder.parent).as_posix()
        sample.quirks += [(kind, name) for kind in kinds]
        if nucleus is not None:
            sample.nuclei.append(nucleus)
    shared = int((claims > 1).sum())
    if shared:
        sample.quirks.append(("overlapping_masks", f"{sample.dsb_id}: {shared} pixels"))


def _read_nucleus(path: Path, claims: np.ndarray, seen: set) -> tuple[list[str], dict | None]:
    """Return a mask's quirks and its nucleus, or None; enter it in ``claims`` and ``seen``."""
    try:
        values = read_mask(path)
    except DatasetError:
        return ["unreadable_mask"], None
    if values.shape != claims.shape:
        return ["mask_shape"], None
    binary = (values > 0).view(np.uint8)
    x, y, width, height = cv2.boundingRect(binary)
    if width == 0:
        return ["empty_mask"], None
    box = np.s_[y : y + height, x : x + width]
    segmentation = encode_mask(binary[box], claims.shape, y, x)
    if segmentation["counts"] in seen:
        return ["duplicate_mask"], None
    seen.add(segmentation["counts"])
    claims[box] += binary[box]
    nucleus = {
        "bbox": [x, y, width, height],
        "area": int(binary[box].sum(dtype=np.int64)),
        "segmentation": segmentation,
    }
    return mask_quirks(values[box]), nucleus


def read_mask(path: Path) -> np.ndarray:
    """Read a mask (H, W): of several colours the largest value counts, and alpha does not."""
    values = _colours(read_stored(path))
    return values.max(axis=2) if values.ndim == 3 else values


def _colours(pixels: np.ndarray) -> np.ndarray:
    """Return (H, W) or (H, W, 3), without alpha."""
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return pixels
    return pixels[:, :, 0] if pixels.shape[2] == 2 else pixels[:, :, :3]
