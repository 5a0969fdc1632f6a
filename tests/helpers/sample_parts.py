"""Parts of the sample to train on."""

import json
from collections import Counter

from unet_sharp_det.data import register_coco_nuclei


def part_register(converted_sample, folder):
    """Return a function (name, choose) that registers some training images of the sample.

    ``choose`` gets the numbers of nuclei by image id and returns the ids to take. With ``by_size``
    the larger half of the nuclei is a class of its own. The json files are written to ``folder``.
    """

    def register(name, choose, by_size=False) -> str:
        json_file = converted_sample / "annotations" / "dsb2018_train.json"
        content = json.loads(json_file.read_text())
        ids = set(choose(Counter(nucleus["image_id"] for nucleus in content["annotations"])))
        content["images"] = [image for image in content["images"] if image["id"] in ids]
        content["annotations"] = [n for n in content["annotations"] if n["image_id"] in ids]
        if by_size:
            ranked = sorted(content["annotations"], key=lambda nucleus: nucleus["area"])
            for nucleus in ranked[len(ranked) // 2 :]:
                nucleus["category_id"] = 2
            content["categories"] = [{"id": 1, "name": "small"}, {"id": 2, "name": "large"}]
        path = folder / f"{name}.json"
        path.write_text(json.dumps(content))
        names = [category["name"] for category in content["categories"]]
        register_coco_nuclei(name, path, converted_sample, names)
        return name

    return register
