"""Hold a third of the training images back, so that settings are chosen without validation images.

python -m benchmarks hold_back --data datasets/dsb2018

Writes the data set ``dsb2018_choice`` beside DATA: ``dsb2018_choice_val`` is a third of the images
of each look in ``dsb2018_train``, chosen by a hash of their names, and ``dsb2018_choice_train`` is
the rest. The images stay where they are.
"""

import argparse
from collections import defaultdict
from pathlib import Path

from unet_sharp_det.data.coco_json import read_coco
from unet_sharp_det.data.folders import DATASET_FILE
from unet_sharp_det.files import write_json
from unet_sharp_det.images.decoding import read_picture
from unet_sharp_det.images.looks import guess_look
from unet_sharp_det.importers.images.splits import rank


def main(argv) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks hold_back",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="dsb2018 folder, as converted")
    hold_back(parser.parse_args(argv[1:]).data)


def hold_back(data: Path) -> None:
    """Write ``dsb2018_choice`` beside the folder ``data`` of DSB2018."""
    content = read_coco(data / "annotations" / "dsb2018_train.json")
    by_look = defaultdict(list)
    for image in content["images"]:
        by_look[guess_look(read_picture(data / image["file_name"]))].append(image)
    held = set()
    for look, images in sorted(by_look.items()):
        images.sort(key=lambda image: rank(image["file_name"]))
        held |= {image["id"] for image in images[: len(images) // 3]}
        print(f"{look}: {len(images) // 3} of {len(images)} images held back.")
    folder = data.parent / "dsb2018_choice"
    splits = {split: f"annotations/{split}.json" for split in ("train", "val")}
    for split, file in splits.items():
        part = {"categories": content["categories"]}
        for key, name in (("images", "id"), ("annotations", "image_id")):
            part[key] = [each for each in content[key] if (each[name] in held) == (split == "val")]
        write_json(folder / file, part)
    classes = [category["name"] for category in content["categories"]]
    told = {"name": folder.name, "classes": classes, "splits": splits}
    write_json(folder / DATASET_FILE, {**told, "image_root": str(data.resolve())})
