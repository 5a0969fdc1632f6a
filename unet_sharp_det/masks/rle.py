"""COCO's masks as compressed run lengths (RLE): checked, encoded and decoded.

pycocotools trusts what it gets: a polygon with NaN takes all memory, and runs that do not fill the
image read and write beyond it. So masks that come from a file pass :func:`to_rles` first.

``pycocotools.mask.decode`` fills a whole image for every mask; with a hundred small objects per
image that dominates an evaluation. :func:`mask_pixels` touches the pixels of the objects only.
"""

import re
import reprlib
from collections.abc import Callable, Sequence

import numpy as np
import pycocotools.mask as mask_util
from faster_coco_eval.mask_api_new_cpp import toUncompressedRLE

from ..errors import DatasetError

#: Whole numbers of at most 7 codes, as many as 32 bits need; the last code of each is below "P".
_COUNTS = re.compile(rb"(?:[P-o]{0,6}[0-O])+")
#: In pixels, of each of which pycocotools takes 130 bytes.
_LONGEST_OUTLINE = 1 << 20


def to_rles(
    segmentations: Sequence, shape: tuple[int, int], name: Callable[[int], str]
) -> list[dict]:
    """Check COCO segmentations of any origin, and return them as compressed RLEs.

    Args:
        segmentations: of each mask a list of polygons, or an RLE with compressed or plain counts.
        shape: (height, width) of the image.
        name: gives what the errors call the mask of an index, e.g. the file and the id.

    Returns:
        ``{"size": [H, W], "counts": str}`` of each; compressed ones as they are, maybe in bytes.

    Raises:
        DatasetError: a segmentation is missing, malformed or of another size, a polygon leads far
            out of the image, or runs do not fill it.
    """
    for index, segmentation in enumerate(segmentations):
        if fault := _find_fault(segmentation, shape):
            raise DatasetError(f"{name(index)} {fault}")
    rles = [_compress(segmentation, shape) for segmentation in segmentations]
    for index, rle in enumerate(rles):
        try:
            is_full = _runs(rle).sum() == shape[0] * shape[1]
        except ValueError:  # Runs are negative, or longer than the image.
            is_full = False
        if not is_full:
            raise DatasetError(
                f"{name(index)} has an RLE that does not fill the image of (height, width) "
                f"{shape}. It was cut off or made for another size: export it again."
            )
    return rles


def encode_mask(mask: np.ndarray, shape: tuple[int, int], top: int = 0, left: int = 0) -> dict:
    """Encode a mask that lies inside of an image, whose other pixels are background.

    Args:
        mask: bool (h, w).
        shape: (height, width) of the image.
        top, left: of the mask's first pixel in the image.

    Returns:
        COCO's compressed RLE of the image's size, with ``counts`` as text.
    """
    (height, width), (rows, columns) = shape, mask.shape
    padded = np.zeros((columns, rows + 2), np.int8)
    padded[:, 1:-1] = mask.T
    column, row = np.nonzero(np.diff(padded, axis=1))
    edges = (left + column) * height + top + row
    # A run that ends with a column goes on in the next one if that begins with the object.
    goes_on = np.flatnonzero(np.diff(edges) == 0)
    edges = np.delete(edges, np.concatenate([goes_on, goes_on + 1]))
    if not edges.size or edges[-1] != height * width:
        edges = np.append(edges, height * width)
    counts = np.diff(edges, prepend=0).tolist()
    return _compress({"size": [height, width], "counts": counts}, shape)


def union_mask(segmentations: Sequence, shape: tuple[int, int], where: str) -> np.ndarray:
    """Return bool (H, W), the pixels of any of the segmentations; ``where`` is for the errors.

    Raises:
        DatasetError: see :func:`to_rles`.
    """
    rles = to_rles(segmentations, shape, numbered(where))
    if not rles:
        return np.zeros(shape, bool)
    return mask_util.decode(mask_util.merge(rles)).astype(bool, order="C")


def numbered(where: str) -> Callable[[int], str]:
    """Return the names of masks that have no id, for :func:`to_rles`."""
    return lambda index: f"{where}: mask {index} (counted from 0)"


def mask_areas(rles: Sequence[dict]) -> np.ndarray:
    """Return integers (N,): the numbers of pixels of masks that :func:`to_rles` gave."""
    # One by one: with numpy 2, pycocotools fails for more than 255.
    return np.array([mask_util.area(rle) for rle in rles], dtype=np.int64)


def mask_pixels(rles: Sequence[dict]) -> list[np.ndarray]:
    """Decode the pixels of masks of one size that :func:`to_rles` gave.

    Returns:
        of each mask the integers (P,) of its pixels, counted down the columns.
    """
    return [_pixels(_runs(rle)) for rle in rles]


def _runs(rle: dict) -> np.ndarray:
    """Return all run lengths, of background and object in turn."""
    return np.array(toUncompressedRLE([rle])[0]["counts"], np.int64)


def _pixels(runs: np.ndarray) -> np.ndarray:
    starts, lengths = (np.cumsum(runs) - runs)[1::2], runs[1::2]
    # All ranges from the starts on, one after the other.
    offsets = starts - (np.cumsum(lengths) - lengths)
    return np.repeat(offsets, lengths) + np.arange(lengths.sum())


def _find_fault(segmentation, shape: tuple[int, int]) -> str:
    """Say what is wrong with a segmentation, but for compressed runs; "": nothing."""
    if isinstance(segmentation, dict):
        return _find_rle_fault(segmentation, shape)
    if segmentation is None or segmentation == []:
        return "has no 'segmentation'. Annotate its mask, by polygons or RLE."
    if not isinstance(segmentation, list):
        shown = reprlib.repr(segmentation)
        return f"has the segmentation {shown}, which is no mask. Write polygons or an RLE."
    return next(filter(None, (_find_polygon_fault(each, shape) for each in segmentation)), "")


def _find_polygon_fault(polygon, shape: tuple[int, int]) -> str:
    try:
        points = np.asarray(polygon)
    except ValueError:  # Lists of several lengths.
        points = np.zeros(())
    if points.ndim != 1 or points.dtype.kind not in "iuf":
        return (
            f"has the polygon {reprlib.repr(polygon)}, which is no list of numbers. Write a list "
            "of polygons, [[x1, y1, x2, y2, x3, y3, ...], ...]."
        )
    if points.size < 6 or points.size % 2:
        return (
            f"has a polygon of {points.size} numbers. Write x and y of 3 points or more, or delete "
            "the polygon."
        )
    points = points.reshape(-1, 2)
    low, high, sides = points.min(axis=0), points.max(axis=0), np.array(shape[::-1])
    if not ((low >= -sides) & (high <= 2 * sides)).all():  # NaN is neither.
        return (
            "has a polygon with a point that is no finite number, or lies far out of its image of "
            f"(height, width) {shape}. Write pixels of this image."
        )
    if len(points) * 3 * max(shape) > _LONGEST_OUTLINE:
        steps = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1)
        if steps.sum() > _LONGEST_OUTLINE:
            return f"has an outline of more than {_LONGEST_OUTLINE:,} pixels. Split the polygon."
    return ""


def _find_rle_fault(rle: dict, shape: tuple[int, int]) -> str:
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, list | tuple) or [type(side) for side in size] != [int, int]:
        return f"has an RLE of the size {reprlib.repr(size)}. Write its [height, width]."
    if tuple(size) != shape:
        return (
            f"has a mask of (height, width) {reprlib.repr(tuple(size))}, but the image has {shape}."
            " Resize the mask, or give the image that it was made for."
        )
    if isinstance(counts, list):
        are_right = all(type(run) is int and 0 <= run <= shape[0] * shape[1] for run in counts)
    else:
        data = counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else counts
        are_right = isinstance(data, bytes) and _COUNTS.fullmatch(data)
    if are_right and counts:
        return ""
    return (
        f"has an RLE with the counts {reprlib.repr(counts)}, which are no run lengths. They were "
        "cut off or changed: export it again."
    )


def _compress(segmentation: list | dict, shape: tuple[int, int]) -> dict:
    if isinstance(segmentation, dict) and not isinstance(segmentation["counts"], list):
        return segmentation
    rle = mask_util.frPyObjects(segmentation, *shape)
    rle = mask_util.merge(rle) if isinstance(rle, list) else rle
    return {"size": list(shape), "counts": rle["counts"].decode("ascii")}
