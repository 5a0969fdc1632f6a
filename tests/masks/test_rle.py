"""Masks: checked before pycocotools gets them, decoded as it does."""

import numpy as np
import pycocotools.mask as mask_util
import pytest

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.masks import encode_mask, mask_areas, mask_pixels, to_rles, union_mask

SHAPE = (6, 8)


def encode(mask):
    return mask_util.encode(np.asfortranarray(mask, np.uint8))


def as_text(mask):
    rle = encode(mask)
    return {**rle, "counts": rle["counts"].decode()}


def uncompressed(mask):
    flat = np.asarray(mask).ravel(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=0))
    return {"size": list(mask.shape), "counts": np.diff([0, *changes, flat.size]).tolist()}


def name(index):
    return f"t.json: mask {index}"


@pytest.mark.parametrize("seed", range(8))
def test_random_masks_of_every_form(seed):
    generator = np.random.default_rng(seed)
    for _ in range(20):
        height, width, count = generator.integers(1, 80, 2).tolist() + [generator.integers(0, 7)]
        masks = generator.random((count, height, width)) < generator.random((count, 1, 1)) ** 3
        for form in (encode, as_text, uncompressed):
            rles = to_rles([form(mask) for mask in masks], (height, width), name)
            found = mask_pixels(rles)
            assert len(found) == count
            for mask, pixels in zip(masks, found, strict=True):
                assert (pixels == np.flatnonzero(mask.ravel(order="F"))).all()
            assert mask_areas(rles).tolist() == masks.sum(axis=(1, 2)).tolist()
            union = union_mask(rles, (height, width), "x")
            assert (union == masks.any(axis=0)).all()


def test_areas_of_more_masks_than_a_byte_counts():
    rles = to_rles([[[0, 0, 4, 0, 4, 3, 0, 3]]] * 300, SHAPE, name)
    assert mask_areas(rles).tolist() == [12] * 300


@pytest.mark.parametrize("seed", range(8))
def test_masks_are_encoded_as_pycocotools_does(seed):
    generator = np.random.default_rng(seed)
    for _ in range(20):
        height, width = generator.integers(1, 20, 2)
        whole = np.zeros((height, width), bool)
        top, left = generator.integers(0, height), generator.integers(0, width)
        part = whole[top : top + generator.integers(0, 9), left : left + generator.integers(0, 9)]
        part[:] = generator.random(part.shape) < generator.random() * 1.2
        for mask, corner in (
            (whole, (0, 0)),
            (part, (top, left)),
            (part.view(np.uint8), (top, left)),
        ):
            assert encode_mask(mask, whole.shape, *corner) == as_text(whole)


def test_polygons_are_filled_as_pycocotools_does():
    polygons = [[1, 1, 6, 1.5, 3, 5], [-3, 4, 4, 4, 4, 11]]
    (rle,) = to_rles([polygons], SHAPE, name)
    expected = mask_util.merge(mask_util.frPyObjects(polygons, *SHAPE))
    assert (mask_util.decode(rle) == mask_util.decode(expected)).all()
    assert mask_areas([rle]) == mask_util.area(expected) > 4


def test_runs_longer_than_a_digit():
    """Counts up to 10 million, and differences of both signs."""
    mask = np.zeros((4000, 2600), np.uint8, order="F")
    mask[5:9, 3] = mask[0:3000, 7] = mask[10, 1000] = mask[2, 2599] = 1
    (pixels,) = mask_pixels(to_rles([encode(mask)], mask.shape, name))
    np.testing.assert_array_equal(pixels, np.flatnonzero(mask.ravel(order="F")))


WHOLE = as_text(np.eye(*SHAPE))["counts"]
MALFORMED = {
    "text": ("text", "which is no mask"),
    "number": (5, "which is no mask"),
    "none": (None, "no 'segmentation'"),
    "empty": ([], "no 'segmentation'"),
    "flat list": ([1, 1, 5, 1, 5, 5], "no list of numbers"),
    "nested twice": ([[[1, 1, 5, 1, 5, 5]]], "no list of numbers"),
    "points": ([[[1, 1], [5, 1], [5, 5, 3]]], "no list of numbers"),
    "null polygon": ([None], "no list of numbers"),
    "text in a polygon": ([[1, 1, 5, 1, 5, "5"]], "no list of numbers"),
    "null in a polygon": ([[1, 1, 5, 1, 5, None]], "no list of numbers"),
    "huge whole number": ([[1, 1, 5, 1, 5, 10**40]], "no list of numbers"),
    "two points": ([[1, 1, 5, 5]], "polygon of 4 numbers"),
    "odd": ([[1, 1, 5, 1, 5, 5, 3]], "polygon of 7 numbers"),
    "second polygon": ([[1, 1, 5, 1, 5, 5], [1]], "polygon of 1 numbers"),
    "nan": ([[1, 1, 5, 1, 5, float("nan")]], "no finite number"),
    "infinite": ([[1, 1, 5, 1, 5, float("inf")]], "no finite number"),
    "far out": ([[1, 1, 5, 1, 5, 1e10]], "far out of its image"),
    "of a larger image": ([[1, 1, 5, 1, 5, 13]], "far out of its image"),
    "long outline": ([[0, 0, 8, 6] * 300_000], "outline of more than 1,048,576"),
    "no size": ({"counts": WHOLE}, "RLE of the size None"),
    "size as a number": ({"size": 6, "counts": WHOLE}, "RLE of the size 6"),
    "size as texts": ({"size": ["6", "8"], "counts": WHOLE}, "RLE of the size"),
    "size of floats": ({"size": [6.0, 8.0], "counts": WHOLE}, "RLE of the size"),
    "size of three": ({"size": [6, 8, 1], "counts": WHOLE}, "RLE of the size"),
    "negative size": ({"size": [-6, -8], "counts": WHOLE}, r"\(-6, -8\), but the image has"),
    "huge size": ({"size": [2**40, 2**40], "counts": WHOLE}, "but the image has"),
    "turned size": ({"size": [8, 6], "counts": WHOLE}, r"\(8, 6\), but the image has \(6, 8\)"),
    "no counts": ({"size": [6, 8]}, "no run lengths"),
    "counts of a number": ({"size": [6, 8], "counts": 48}, "no run lengths"),
    "empty counts": ({"size": [6, 8], "counts": ""}, "no run lengths"),
    "empty list": ({"size": [6, 8], "counts": []}, "no run lengths"),
    "cut by one": ({"size": [6, 8], "counts": WHOLE[:-1]}, "does not fill|no run lengths"),
    "cut by three": ({"size": [6, 8], "counts": WHOLE[:-3]}, "does not fill|no run lengths"),
    "longer": ({"size": [6, 8], "counts": WHOLE + "1"}, "does not fill"),
    "open end": ({"size": [6, 8], "counts": WHOLE + "P"}, "no run lengths"),
    "many digits": ({"size": [6, 8], "counts": "P" * 40 + "0"}, "no run lengths"),
    "code out of range": ({"size": [6, 8], "counts": WHOLE + "~"}, "no run lengths"),
    "letter with accent": ({"size": [6, 8], "counts": "é" + WHOLE}, "no run lengths"),
    "NUL": ({"size": [6, 8], "counts": "\0" + WHOLE}, "no run lengths"),
    "half a character": ({"size": [6, 8], "counts": "\ud800"}, "no run lengths"),
    "runs too short": ({"size": [6, 8], "counts": [5, 6]}, "does not fill"),
    "runs too long": ({"size": [6, 8], "counts": [5, 40, 40]}, "does not fill"),
    "negative run": ({"size": [6, 8], "counts": [50, -2]}, "no run lengths"),
    "negative compressed": ({"size": [6, 8], "counts": "b1N"}, "does not fill"),
    "around 2^64": ({"size": [6, 8], "counts": [0, 2**63 - 1, 1, 2**63 - 1, 49]}, "no run lengths"),
    "runs of floats": ({"size": [6, 8], "counts": [5.0, 43.0]}, "no run lengths"),
    "runs of texts": ({"size": [6, 8], "counts": ["5", "43"]}, "no run lengths"),
    "runs of lists": ({"size": [6, 8], "counts": [[5], [43]]}, "no run lengths"),
}


@pytest.mark.parametrize("form", MALFORMED)
def test_malformed(form):
    segmentation, message = MALFORMED[form]
    good = as_text(np.eye(*SHAPE))
    with pytest.raises(DatasetError, match=rf"^t\.json: mask 1 has .*({message}).*\. \w.*\.$"):
        to_rles([good, segmentation, good], SHAPE, name)
