"""COCO data sets: what is refused by training and evaluation alike, and what is derived."""

import json
import math

import numpy as np
import pycocotools.mask as mask_util
import pytest

from unet_sharp_det.data.coco_json import check_coco, read_coco
from unet_sharp_det.data.label_maps import read_label_map
from unet_sharp_det.errors import DatasetError
from unet_sharp_det.masks import union_mask

SQUARE = [[10, 10, 20, 10, 20, 20, 10, 20]]
AREA = 10 * 10


def data_set():
    """Two images of (height, width) (64, 80), the first with three objects."""
    entry = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 10, 10], "area": AREA, "iscrowd": 0}
    sides = {"height": 64, "width": 80}
    return {
        "images": [{"id": k, "file_name": f"{k}.png", **sides} for k in (1, 2)],
        "categories": [{"id": 1, "name": "nucleus"}],
        "annotations": [{"id": k, **entry, "segmentation": SQUARE} for k in (1, 2, 3)],
    }


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def image(**values):
    return lambda content: content["images"][0].update(values)


def annotation(**values):
    return lambda content: content["annotations"][0].update(values)


def category(**values):
    return lambda content: content["categories"][0].update(values)


def without(*keys):
    return lambda content: [content["annotations"][0].pop(key) for key in keys]


def all_crowd(content):
    for each in content["annotations"]:
        each["iscrowd"] = 1


NAN, INF = float("nan"), float("inf")
OUTSIDE = [[100, 10, 120, 10, 120, 20]]
FIRST = "annotation with id 1 has "
FAULTS = {
    "no images": (lambda content: content["images"].clear(), "holds no images"),
    "images of texts": (lambda content: content.update(images=["a"]), "no list 'images'"),
    "annotations as object": (lambda c: c.update(annotations={"1": {}}), "no list 'annotations'"),
    "no categories": (lambda content: content.pop("categories"), "no list 'categories'"),
    "empty categories": (lambda content: content["categories"].clear(), "holds no categories"),
    "no file name": (lambda content: content["images"][0].pop("file_name"), "lacks 'file_name'"),
    "no category id": (without("category_id"), "entry 0 .* of 'annotations' lacks 'category_id'"),
    "image id of another type": (image(id="1"), "numbers and texts"),
    "image id as list": (image(id=[1]), r"has the id \[1\]"),
    "image id as float": (image(id=1.0), "has the id 1.0"),
    "image id as bool": (image(id=True), "has the id True"),
    "huge image id": (image(id=10**30), "has the id 1000"),
    "half a character": (image(id="\ud800"), "has the id"),
    "repeated image id": (image(id=2), "'images' repeats the id 2"),
    "repeated annotation id": (annotation(id=2), "'annotations' repeats the id 2"),
    "annotation id as object": (annotation(id={}), "'annotations' has the id {}"),
    "image_id as text": (annotation(image_id="1"), FIRST + "the image_id '1', .* one of 1, 2"),
    "image_id as float": (annotation(image_id=1.0), FIRST + "the image_id 1.0"),
    "image_id as list": (annotation(image_id=[1]), FIRST + r"the image_id \[1\]"),
    "unknown image": (annotation(image_id=7), FIRST + "the image_id 7"),
    "category_id as text": (annotation(category_id="1"), FIRST + "the category_id '1'"),
    "unknown category": (annotation(category_id=0), FIRST + "the category_id 0"),
    "category as text": (category(id="1"), "has the category .*whole number"),
    "category name as number": (category(name=1), "has the category .*text"),
    "file name as list": (image(file_name=["a.png"]), "image with id 1 has the file_name"),
    "file name of half a character": (image(file_name="\ud800.png"), "has the file_name"),
    "side as text": (image(height="64"), "image with id 1 has the height '64'"),
    "side 0": (image(width=0), "the width 0"),
    "negative side": (image(height=-64), "the height -64"),
    "side as float": (image(height=64.0), "the height 64.0"),
    "side as bool": (image(height=True), "the height True"),
    "large": (image(height=30_000, width=30_000), "the height 30000"),
    "huge": (image(height=10**6, width=10**6), "the height 1000000"),
    "crowd as text": (annotation(iscrowd="1"), FIRST + "the iscrowd '1'"),
    "crowd as null": (annotation(iscrowd=None), FIRST + "the iscrowd None"),
    "crowd of 2": (annotation(iscrowd=2), FIRST + "the iscrowd 2"),
    "ignore": (annotation(ignore=1), FIRST + "'ignore'"),
    "all crowd": (all_crowd, "all 3 annotations have 'iscrowd' 1"),
    "box as null": (annotation(bbox=None), FIRST + "the bbox None"),
    "box of three": (annotation(bbox=[1, 2, 3]), FIRST + "the bbox"),
    "box of texts": (annotation(bbox=["1", "2", "3", "4"]), FIRST + "the bbox"),
    "box of NaN": (annotation(bbox=[1, 2, NAN, 4]), FIRST + "the bbox"),
    "infinite box": (annotation(bbox=[1, 2, INF, 4]), FIRST + "the bbox"),
    "negative box": (annotation(bbox=[10, 10, -5, 5]), FIRST + "the bbox"),
    "flat box": (annotation(bbox=[10, 10, 0, 5]), FIRST + "the bbox"),
    "box outside": (annotation(bbox=[80, 10, 5, 5]), FIRST + "the bbox"),
    "huge box": (annotation(bbox=[10, 10, 1e10, 5]), FIRST + "the bbox"),
    "area as text": (annotation(area="100"), FIRST + "the area '100'"),
    "area as null": (annotation(area=None), FIRST + "the area None"),
    "area NaN": (annotation(area=NAN), FIRST + "the area nan"),
    "negative area": (annotation(area=-1), FIRST + "the area -1"),
    "neither box nor mask": (without("bbox", "segmentation"), FIRST + "neither"),
    "mask outside": (annotation(segmentation=OUTSIDE), FIRST + "a mask without a pixel"),
    "malformed mask": (annotation(segmentation=[[1, 2, 3, 4]]), FIRST + "a polygon of 4"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path, fault):
    spoil, message = FAULTS[fault]
    content = data_set()
    spoil(content)
    with pytest.raises(DatasetError, match=rf"t\.json: .*{message}") as error:
        read_coco(write(tmp_path / "t.json", content))
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "content, message",
    [("[]", "no list 'images'.* Give"), ("null", "no list 'images'"), ("{", "is not JSON")]
    + [('{"a":' * 100_000, "nested too deeply"), ('{"a": ' + "1" * 5000 + "}", "is not JSON")],
)
def test_other_files(tmp_path, content, message):
    with pytest.raises(DatasetError, match=message):
        read_coco(write(tmp_path / "t.json", content))


def test_bytes_of_other_encodings(tmp_path):
    path = write(tmp_path / "t.json", data_set())
    text = path.read_text()
    path.write_bytes(text.encode("utf-8-sig"))
    assert len(read_coco(path)["annotations"]) == 3
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(DatasetError, match="is not JSON in UTF-8"):
        read_coco(path)


def test_what_is_missing_is_derived(tmp_path):
    content = data_set()
    mask = np.zeros((64, 80), np.uint8, order="F")
    mask[5:9, 30:33] = mask[5, 33] = 1
    counts = mask_util.encode(mask)["counts"].decode()
    flat = mask.ravel(order="F")
    runs = np.diff([0, *np.flatnonzero(np.diff(flat)) + 1, flat.size]).tolist()
    polygon, plain, box = content["annotations"]
    for each in content["annotations"]:
        del each["area"], each["iscrowd"]
    del polygon["bbox"], plain["bbox"]
    plain["segmentation"], box["segmentation"] = {"size": [64, 80], "counts": runs}, []
    polygon, plain, box = read_coco(write(tmp_path / "t.json", content))["annotations"]
    assert [each["area"] for each in (polygon, plain, box)] == [AREA, 13, AREA]
    assert [each["bbox"] for each in (polygon, plain)] == [[10, 10, 10, 10], [30, 5, 4, 4]]
    assert [each["iscrowd"] for each in (polygon, plain, box)] == [0, 0, 0]
    assert polygon["segmentation"] == SQUARE
    assert plain["segmentation"] == {"size": [64, 80], "counts": counts}
    assert "segmentation" not in box


def test_what_passes_can_be_painted(tmp_path):
    content = data_set()
    content["annotations"][0]["segmentation"] = [[-20, 10, 20, 10, 20, 20]]  # Partly outside.
    read = read_coco(write(tmp_path / "t.json", content))
    record = {"height": 64, "width": 80, "file_name": "1.png", "annotations": []}
    record["annotations"] = [{**each, "category_id": 0} for each in read["annotations"]]
    assert read_label_map(record).sum() > AREA


HOSTILE = [
    *(None, True, 0, -1, 1, 2.5, 1e10, NAN, INF, 2**31, 2**64, 10**400, "", "1", "\ud800"),
    *("x" * 999, [], {}, [[]], [1], [None], [NAN] * 6, [[1e10] * 6], [0, 0, 0, 0]),
    *(["1", "2", "3", "4"], [0, 2**63 - 1, 1, 2**63 - 1, 5121], [-5, 5125]),
    {"size": [64, 80], "counts": "0"},
    {"size": [10**6, 10**6], "counts": [10**12]},
]


def places(value, place=()):
    """All places in nested lists and objects, as tuples of keys."""
    pairs = enumerate(value) if isinstance(value, list) else []
    for key, inner in value.items() if isinstance(value, dict) else pairs:
        yield (*place, key)
        yield from places(inner, (*place, key))


def mutated(content, place, value=None, *, delete=False):
    content = json.loads(json.dumps(content))
    *parents, last = place
    inner = content
    for key in parents:
        inner = inner[key]
    if delete:
        del inner[last]
    else:
        inner[last] = value
    return content


def test_every_value_replaced_by_every_hostile_one():
    """It is refused by a short error, or can be painted."""
    content = data_set()
    mask = np.zeros((64, 80), np.uint8, order="F")
    mask[5:9, 30:33] = 1
    counts = mask_util.encode(mask)["counts"].decode()
    content["annotations"][1]["segmentation"] = {"size": [64, 80], "counts": counts}
    content["annotations"][2]["segmentation"] = {"size": [64, 80], "counts": [650, 10, 4460]}
    errors = []
    for place in places(content):
        cases = [mutated(content, place, value) for value in HOSTILE]
        for case in [*cases, mutated(content, place, delete=True)]:
            try:
                check_coco(case, "t.json")
            except DatasetError as error:
                errors.append(str(error))
                continue
            for image_entry in case["images"]:
                shape = (image_entry["height"], image_entry["width"])
                masks = [
                    each["segmentation"]
                    for each in case["annotations"]
                    if each["image_id"] == image_entry["id"] and "segmentation" in each
                ]
                if math.prod(shape) < 1e5:
                    union_mask(masks, shape, "t.json")
    assert len(errors) > 1000
    assert all(error.startswith("t.json: ") and len(error) < 500 for error in errors)
