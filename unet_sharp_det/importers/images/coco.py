"""COCO json files, with polygons or RLE, of any tool: LIVECell, CVAT, VIA, Roboflow."""

import contextlib
import functools
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path, PureWindowsPath

from ...data.coco_json import check_crowd, check_ids
from ...data.label_files import check_size
from ...errors import DatasetError
from ...files import leads_inside, read_json
from ...images.source import SUFFIXES
from .samples import Sample, files_in, refuse, split_of_name


def find(folder: Path) -> str | None:
    """Return why a folder, or a file, is of this format; None: it is not."""
    files = _json_files(folder)
    return f"{files[0].name} has images, annotations and categories" if files else None


def read(folder: Path) -> Iterator[Sample]:
    """Read the json files of a folder, or one file; images lie anywhere below its folder.

    Of several files, those with train, val or test in their names are these splits.
    """
    files = _json_files(folder)
    root = folder if folder.is_dir() else folder.parent
    root = root.parent if root.name.lower() == "annotations" else root

    @functools.cache
    def images_below() -> dict[str, list[Path]]:
        found = defaultdict(list)
        for each in sorted(root.rglob("*")):
            if each.suffix.lower() in SUFFIXES:
                found[each.name].append(each)
        return found

    for path in files:
        content = _load(path)
        _mend_ids_of_via(content)
        check_ids(content, str(path))
        check_crowd(content["annotations"], str(path))
        names = {each["id"]: each["name"] for each in content["categories"]}
        annotations = defaultdict(list)
        for each in content["annotations"]:
            annotations[each["image_id"]].append(each)
        for image in content["images"]:
            objects = functools.partial(_objects, annotations[image["id"]], names, image, path)
            name = image["file_name"]
            found = _find_images(name, path, root, images_below)
            file = found[0] if len(found) == 1 else None
            if file is None:
                fault = f"there is no image {name!r} below {root}. Lay it there."
                if found:
                    fault = f"{len(found)} images below {root} are called {Path(name).name!r}. "
                    fault += "Write the path of the one that is meant as 'file_name'."
                objects = refuse(f"{path}: {fault}")
            stem = str(Path(str(name)).with_suffix(""))
            split = split_of_name(path.stem) if len(files) > 1 else None
            yield Sample(stem, file, objects, split, tuple(names.values()))


def is_beside(folder: Path) -> bool:
    """Whether the json files lie in a folder or its ``annotations``, not with the images."""
    places = (folder, folder / "annotations")
    with contextlib.suppress(DatasetError):  # Of a json file that may be of something else.
        return any(_is_coco(file) for place in places for file in files_in(place, (".json",)))
    return False


def _mend_ids_of_via(content: dict) -> None:
    """Give annotations the ids of images as they are; VIA 2 writes "0" of the image 0."""
    ids = {str(each.get("id")): each.get("id") for each in _dicts(content["images"])}
    for each in _dicts(content["annotations"]):
        if isinstance(each.get("image_id"), str):
            each["image_id"] = ids.get(each["image_id"], each["image_id"])


def _dicts(entries) -> list[dict]:
    return [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []


def _find_images(name, json_file: Path, root: Path, by_name: Callable[[], dict]) -> list[Path]:
    """Return the image of a path in a json file, or those of its name alone, in any folder; if some
    are in a folder of the json file's split, these."""
    if not isinstance(name, str):
        return []
    if leads_inside(name):
        places = (json_file.parent / name, root / name, root / "images" / name)
        if found := next((each for each in places if os.path.isfile(each)), None):
            return [found]
    split = split_of_name(json_file.stem)
    named = by_name().get(PureWindowsPath(name).name, [])  # Which parts paths of any system.
    folders = {each: map(split_of_name, each.relative_to(root).parts[:-1]) for each in named}
    return [each for each in named if split and split in folders[each]] or named


def _objects(annotations: list[dict], names: dict, image: dict, path: Path, shape) -> list[dict]:
    check_size(f"{path}: {image['file_name']!r}", (image["height"], image["width"]), shape)
    objects = []
    for each in annotations:
        segmentation = each.get("segmentation")
        if segmentation in (None, []):
            raise DatasetError(
                f"{path}: the annotation {each['id']} has no 'segmentation'. Annotate masks."
            )
        if isinstance(segmentation, list) and not isinstance(segmentation[0], list):
            segmentation = [segmentation]  # VIA 2 writes one polygon so.
        crowd = int(each.get("iscrowd") or 0)
        found = {"category": names[each["category_id"]], "segmentation": segmentation}
        objects.append({**found, "iscrowd": crowd})
    return objects


def _json_files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder] if folder.suffix.lower() == ".json" and _is_coco(folder) else []
    places = (folder, *(each for each in sorted(folder.iterdir()) if each.is_dir()))
    files = (file for place in places for file in files_in(place, (".json",)))
    return [file for file in files if _is_coco(file)]


def _is_coco(path: Path) -> bool:
    with path.open("rb") as file:  # labelme has a file per image, not to be read twice.
        if b'"shapes"' in file.read(4096):
            return False
    content = _load(path)
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def _load(path: Path):
    return _load_of_time(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _load_of_time(path: Path, _):
    return read_json(path)
