"""Parts of the sample to train on."""

import contextlib
import json
from collections import Counter

from detectron2.data import DatasetCatalog, MetadataCatalog

from unet_sharp_det.data import register_coco_nuclei


@contextlib.contextmanager
def registered_parts(converted_sample, folder):
    """Yield a function (name, choose) that registers some training images of the sample.

    ``choose`` gets the numbers of nuclei by image id and returns the ids to take. The json files
    are written to ``folder``; at the end the data sets are forgotten.
    """
    registered = []

    def register(name, choose) -> str:
        json_file = converted_sample / "annotations" / "dsb2018_train.json"
        content = json.loads(json_file.read_text())
        ids = set(choose(Counter(nucleus["image_id"] for nucleus in content["annotations"])))
        content["images"] = [image for image in content["images"] if image["id"] in ids]
        content["annotations"] = [n for n in content["annotations"] if n["image_id"] in ids]
        path = folder / f"{name}.json"
        path.write_text(json.dumps(content))
        register_coco_nuclei(name, path, converted_sample, ["nucleus"])
        registered.append(name)
        return name

    yield register
    for name in registered:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
