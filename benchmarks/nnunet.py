"""A data set for nnU-Net v2's own commands, and its predictions for unet-sharp-det evaluate.

python -m benchmarks nnunet export --dataset dsb2018 --id 501 --output NNUNET_RAW
python -m benchmarks nnunet number PREDICTIONS LABELS

export  <dataset>_train and <dataset>_val as NNUNET_RAW/Dataset<id>_<dataset>
number  nnU-Net's masks as label maps: each 4-connected component gets a number

docs/RIVALS.md has the commands between the two.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from scipy import ndimage

from unet_sharp_det.data.catalog import check_registered
from unet_sharp_det.data.label_maps import read_label_map
from unet_sharp_det.errors import DatasetError
from unet_sharp_det.files import write_json
from unet_sharp_det.images.decoding import read_image, read_labels


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks nnunet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("export").add_argument
    add("--dataset", required=True, help="a registered data set, without _train and _val")
    add("--id", type=int, required=True, help="nnU-Net's number of it, e.g. 501")
    add("--output", type=Path, required=True, help="nnU-Net's folder nnUNet_raw")
    add = commands.add_parser("number").add_argument
    add("predictions", type=Path, help="folder of nnUNetv2_predict")
    add("labels", type=Path, help="new folder")
    return parser.parse_args(argv)


def main(argv=None) -> None:
    args = parse_args(argv[1:])
    if args.command == "export":
        print(export(args.dataset, args.id, args.output))
    else:
        print(f"{number(args.predictions, args.labels)} label maps in {args.labels}")


def export(dataset: str, number: int, output: Path) -> Path:
    """Write a data set in nnU-Net's layout of 2D images and return its folder.

    Images become PNG of RGB, 8 bits; label maps hold one number per class, 0 the background.

    Raises:
        DatasetError: the folder is there already, or the data set cannot be read.
    """
    names = [f"{dataset}_{part}" for part in ("train", "val")]
    check_registered(names, "--dataset")
    train, val = map(DatasetCatalog.get, names)
    folder = output / f"Dataset{number:03d}_{dataset}"
    if folder.exists():
        raise DatasetError(f"{folder} is there already. Delete it, or give another --id.")
    for part, records in (("Tr", train), ("Ts", val)):
        for record in records:
            stem = Path(record["file_name"]).stem
            image = np.ascontiguousarray(read_image(record["file_name"], "BGR"))
            _write(folder / f"images{part}" / f"{stem}_0000.png", image)
            if part == "Tr":
                _write(folder / "labelsTr" / f"{stem}.png", read_label_map(record))
    classes = MetadataCatalog.get(names[0]).thing_classes
    content = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, **{name: i for i, name in enumerate(classes, 1)}},
        "numTraining": len(train),
        "file_ending": ".png",
    }
    write_json(folder / "dataset.json", content, indent=2)
    return folder


def number(predictions: Path, labels: Path) -> int:
    """Number the components of all masks (.png) in a folder; return how many masks there are."""
    files = sorted(predictions.glob("*.png"))
    if not files:
        raise DatasetError(f"{predictions}: holds no .png. Give nnUNetv2_predict's -o.")
    for file in files:
        components, _ = ndimage.label(read_labels(str(file)))
        _write(labels / file.name, components.astype(np.uint16))
    return len(files)


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
