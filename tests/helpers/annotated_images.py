"""A picture with four objects, and what an import wrote of it."""

import json

import cv2
import numpy as np
import pycocotools.mask as mask_util

SHAPE = (48, 64)
STEMS = ("a", "b", "c")
#: Corners (x, y) of the objects: two that touch, an L, and one at the border.
CORNERS = [
    [(4, 4), (14, 4), (14, 12), (4, 12)],
    [(14, 4), (22, 4), (22, 12), (14, 12)],
    [(30, 10), (50, 10), (50, 16), (36, 16), (36, 30), (30, 30)],
    [(56, 40), (64, 40), (64, 48), (56, 48)],
]


def truth():
    """The label map (H, W) of the objects 1 to 4."""
    labels = np.zeros(SHAPE, np.uint16)
    labels[4:12, 4:14] = 1
    labels[4:12, 14:22] = 2
    labels[10:16, 30:50] = 3
    labels[16:30, 30:36] = 3
    labels[40:48, 56:64] = 4
    return labels


def picture(seed=0):
    noise = np.random.default_rng(seed).integers(0, 60, (*SHAPE, 3), dtype=np.uint8)
    return noise + 120 * (truth() > 0)[:, :, None].astype(np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)
    return path


def coco(polygons):
    """COCO's content of the images of ``STEMS``."""
    content = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "cell"}]}
    for image_id, stem in enumerate(STEMS):
        size = {"height": SHAPE[0], "width": SHAPE[1]}
        content["images"].append({"id": image_id, "file_name": f"{stem}.png", **size})
        for number, corners in enumerate(CORNERS, 1):
            if polygons:
                segmentation = [np.ravel(corners).tolist()]
            else:
                segmentation = mask_util.encode(np.asfortranarray(truth() == number))
                segmentation["counts"] = segmentation["counts"].decode()
            ids = {"id": len(content["annotations"]) + 1, "image_id": image_id, "category_id": 7}
            content["annotations"].append({**ids, "segmentation": segmentation, "iscrowd": 0})
    return content


def write_coco(root, polygons=False):
    for seed, stem in enumerate(STEMS):
        save(root / "pictures" / f"{stem}.png", picture(seed))
    (root / "annotations").mkdir()
    (root / "annotations" / "all.json").write_text(json.dumps(coco(polygons)))


class Imported:
    """What an import wrote: masks by image stem and class."""

    def __init__(self, folder, status, text):
        self.folder, self.status, self.text = folder, status, text
        self.dataset = json.loads((folder / "dataset.json").read_text())
        self.splits, self.objects = {}, {}
        for split, file in self.dataset["splits"].items():
            content = json.loads((folder / file).read_text())
            names = {each["id"]: each["name"] for each in content["categories"]}
            stems = {each["id"]: each["file_name"].rpartition(".")[0] for each in content["images"]}
            self.splits[split] = sorted(stems.values())
            self.objects |= {stem: [] for stem in stems.values()}
            for each in content["annotations"]:
                mask = mask_util.decode(each["segmentation"]).astype(bool)
                self.objects[stems[each["image_id"]]].append((names[each["category_id"]], mask))

    def label_map(self, stem):
        labels = np.zeros(SHAPE, np.uint16)
        for number, (_, mask) in enumerate(self.objects[stem], 1):
            assert not labels[mask].any(), "objects overlap"
            labels[mask] = number
        return labels

    def classes(self, stem):
        return [name for name, _ in self.objects[stem]]
