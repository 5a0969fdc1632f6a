"""Registration of nuclei data sets in COCO format, with checks that say what is wrong and where."""

import functools
import math
import os
import reprlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ..addresses import address_of, local_paths
from ..errors import DatasetError, did_you_mean
from ..files import safe_join
from ..images.decoding import read_shape
from .coco_json import first_few, read_coco
from .label_files import check_size
from .label_maps import IGNORED

DSB2018_SPLITS = ("train", "val", "test")
DSB2018_CATEGORIES = [{"id": 1, "name": "nucleus", "supercategory": "cell"}]
_ANNOTATION_KEYS = ("id", "iscrowd", "bbox", "segmentation")


def register_dsb2018(root=None) -> None:
    """Register ``dsb2018_train``, ``dsb2018_val`` and ``dsb2018_test``; nothing is read yet.

    Args:
        root: the folder that ``datasets/prepare_dsb2018.py`` wrote to. None: :func:`default_root`.
    """
    root = default_root() if root is None else Path(root)
    for split in DSB2018_SPLITS:
        register_coco_nuclei(
            f"dsb2018_{split}",
            root / "annotations" / f"dsb2018_{split}.json",
            root,
            [category["name"] for category in DSB2018_CATEGORIES],
            remedy=(
                f"Run: python datasets/prepare_dsb2018.py stage1_train.zip --output {root}   "
                "(or datasets/sample for the archive: 32 images, none of test), or set "
                "DETECTRON2_DATASETS to the folder that holds dsb2018/."
            ),
        )


def datasets_root() -> Path:
    """Return ``$DETECTRON2_DATASETS``, a folder or an address, by default ``datasets``."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()


def default_root() -> Path:
    """Return ``$DETECTRON2_DATASETS/dsb2018``."""
    return datasets_root() / "dsb2018"


def register_coco_nuclei(
    name: str,
    json_file,
    image_root,
    thing_classes: Sequence[str],
    *,
    sem_seg_root=None,
    remedy: str = "",
) -> None:
    """Register a COCO json file (polygons or RLE) under ``name``, to be checked when it is loaded.

    Other files or classes replace those that were registered before.

    Args:
        json_file, image_root, sem_seg_root: paths, or addresses (:func:`.addresses.local_path`).
        image_root: the folder that the json file's ``file_name`` entries are relative to, and must
            not leave.
        thing_classes: the names of the json file's categories in the order of their ids.
        sem_seg_root: the folder of the label maps (0 background, 255 ignored), each a .png named
            as its image is. None: they are painted from the annotations where a model needs them.
        remedy: what to do if files are missing; ends the messages that say so.
    """
    json_file, image_root = (
        address_of(path) or os.fspath(path) for path in (json_file, image_root)
    )
    metadata = {
        "json_file": json_file,
        "image_root": image_root,
        "sem_seg_root": None if sem_seg_root is None else os.fspath(sem_seg_root),
        "thing_classes": list(thing_classes),
        "stuff_classes": ["background", *thing_classes],
        "ignore_label": IGNORED,
        "evaluator_type": "coco",
    }
    if name in DatasetCatalog:
        registered = MetadataCatalog.get(name).as_dict()
        if all(registered.get(key) == value for key, value in metadata.items()):
            return
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    load = functools.partial(
        load_coco_nuclei,
        name,
        json_file,
        image_root,
        thing_classes,
        sem_seg_root=sem_seg_root,
        remedy=remedy,
    )
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(**metadata)


def check_registered(names: Sequence[str], option: str) -> None:
    """Raise a DatasetError if one of ``names``, which ``option`` gave, is not registered."""
    known = DatasetCatalog.list()
    for name in names:
        if name not in known:
            raise DatasetError(
                f"{option}: '{name}' is not known.{did_you_mean(name, known)} Imported ones were "
                f"looked for in {datasets_root()} (set DETECTRON2_DATASETS); others are registered "
                "by the Python file that DETECTRON2_ENV_MODULE names."
            )


def median_diameter(records: Iterable[dict]) -> float:
    """Return the median diameter of the objects of dataset dicts, in pixels; 0: there are none.

    By the boxes: an ellipse along the axes is as large as a circle of the diameter
    ``sqrt(width * height)``. DSB2018's training has 20.0, and 19.3 by its masks.
    """
    boxes = [
        BoxMode.convert(each["bbox"], each["bbox_mode"], BoxMode.XYWH_ABS)
        for record in records
        for each in record.get("annotations", ())
        if not each.get("iscrowd")
    ]
    return float(np.median([math.sqrt(width * height) for *_, width, height in boxes] or 0))


def load_coco_nuclei(
    name: str,
    json_file,
    image_root,
    thing_classes: Sequence[str],
    *,
    sem_seg_root=None,
    remedy: str = "",
) -> list[dict]:
    """Load a COCO json file that was registered with these arguments, as detectron2's dataset
    dicts, with ``sem_seg_file_name`` if there are label maps.

    Raises:
        DatasetError: see :func:`check_coco`; or categories, files or sizes are not those that the
            registration or the json file says, or several images would share a label map.
    """
    content = read_coco(json_file, remedy)
    where = f"{name} ({json_file})"
    classes = sorted(content["categories"], key=lambda category: category["id"])
    if [category["name"] for category in classes] != list(thing_classes):
        found = {category["id"]: category["name"] for category in classes}
        raise DatasetError(
            f"{where}: the json file has the categories {reprlib.repr(found)}, but the data set is "
            f"registered with the classes {list(thing_classes)}. Change either."
        )
    names = [image["file_name"] for image in content["images"]]
    files = _find_files(where, "images", names, Path(image_root), remedy)
    indices = {category["id"]: index for index, category in enumerate(classes)}
    records = _to_records(content, indices, files)
    for record in records:
        path = record["file_name"]
        check_size(f"{where}: {path}", read_shape(path), (record["height"], record["width"]))
    # Metadata.set() would refuse the ids of a json file that was changed since it was loaded.
    vars(MetadataCatalog.get(name)).update(
        thing_classes=list(thing_classes), thing_dataset_id_to_contiguous_id=indices
    )
    if sem_seg_root is not None:
        _add_label_maps(where, records, Path(sem_seg_root), remedy)
    return records


def _to_records(content: dict, indices: dict[int, int], files: dict[str, str]) -> list[dict]:
    """In the order of the image ids; ``indices``: detectron2's contiguous ids of the categories."""
    annotations = defaultdict(list)
    for annotation in content["annotations"]:
        entry = {key: annotation[key] for key in _ANNOTATION_KEYS if key in annotation}
        entry |= {"category_id": indices[annotation["category_id"]], "bbox_mode": BoxMode.XYWH_ABS}
        annotations[annotation["image_id"]].append(entry)
    return [
        {
            "file_name": files[image["file_name"]],
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "annotations": annotations[image["id"]],
            **({"look": image["look"]} if image.get("look") else {}),
        }
        for image in sorted(content["images"], key=lambda image: image["id"])
    ]


def _add_label_maps(where: str, records: list[dict], root: Path, remedy: str) -> None:
    """Give every record ``sem_seg_file_name``."""
    names = [f"{Path(record['file_name']).stem}.png" for record in records]
    shared = [name for name, count in Counter(names).items() if count > 1]
    if shared:
        raise DatasetError(
            f"{where}: several images would share the label map {first_few(shared)}. Rename them."
        )
    files = _find_files(where, "label maps", names, root, remedy)
    for record, name in zip(records, names, strict=True):
        record["sem_seg_file_name"] = files[name]


def _find_files(where: str, what: str, names: list[str], root: Path, remedy: str) -> dict[str, str]:
    """Return the path of each file, by its name below ``root``, which may be an address."""
    paths = local_paths([safe_join(root, name, where) for name in names])
    missing = [name for name, path in zip(names, paths, strict=True) if not os.path.isfile(path)]
    if missing:
        raise DatasetError(
            f"{where}: {len(missing)} of {len(names)} {what} are missing below {root}: "
            f"{first_few(missing)}. {remedy}".strip()
        )
    return dict(zip(names, map(str, paths), strict=True))


register_dsb2018()
