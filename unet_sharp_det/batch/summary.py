"""What stands in an output folder as a whole: a table, one COCO data set, and how it was made."""

import csv
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

import unet_sharp_det

from ..files import atomic_path, write_json
from ..outputs import merge_coco
from ..provenance import versions
from .inputs import natural_key
from .records import ImageRecord, Records

COLUMNS = (
    "image",
    "plane",
    "height",
    "width",
    "objects",
    "mean_area_px",
    "median_area_px",
    "coverage",
    "seconds",
    "status",
    "error",
)

#: What a folder gets beside the files of each image.
_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "opencv-python-headless", "tifffile")


def write_summary(folder: Path, records: Sequence[ImageRecord]) -> None:
    """Write ``summary.csv``, a row per image; ``image`` is its path below the common folder."""
    names = image_names(records)
    with atomic_path(folder / "summary.csv") as temporary:
        # Names of files may hold bytes that are no text.
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for record in records:
                writer.writerow(_row(record, names[record.source]))


def write_coco(folder: Path, records: Sequence[ImageRecord]) -> None:
    """Join the COCO files of all images in ``coco.json``, one in memory at a time.

    The name of an image is as in its own file, after its folders below the common folder.
    """
    names, images, count, head = image_names(records), [], 0, {}
    with atomic_path(folder / "coco.json") as temporary:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write('{"annotations": [')
            for record in (record for record in records if _has_coco(record, folder)):
                data = merge_coco([folder / record.outputs["coco"]])
                annotations = data.pop("annotations")
                (image,) = data.pop("images")
                head = head or data
                name = PurePath(names[record.source]).with_name(image["file_name"]).as_posix()
                images.append({**image, "id": len(images) + 1, "file_name": name})
                for annotation in annotations:
                    ids = {"id": count + 1, "image_id": len(images)}
                    file.write((",\n" if count else "\n") + json.dumps({**annotation, **ids}))
                    count += 1
            file.write("\n], " + json.dumps({**head, "images": images})[1:] + "\n")


def write_run(folder: Path, about: Mapping[str, object]) -> None:
    """Write ``predict.json``: ``about``, and the versions of what ran."""
    content = {**about, "git_revision": _git_revision(), "versions": versions(_PACKAGES)}
    write_json(folder / "predict.json", content, indent=2)


def in_order(records: Records) -> list[ImageRecord]:
    """Return the records that still say something, sorted by path and plane.

    Those of outputs that were removed don't, nor failures of files that are gone.
    """
    kept = [
        record
        for record in records
        if (os.path.lexists(record.source) if record.error else records.has_outputs(record))
    ]
    return sorted(kept, key=lambda record: (natural_key(record.source), natural_key(record.plane)))


def image_names(records: Sequence[ImageRecord]) -> dict[str, str]:
    """Return the path of each source below the folder that they have in common, with ``/``."""
    folder = common_folder(records)
    return {
        record.source: PurePath(os.path.relpath(record.source, folder)).as_posix()
        if folder
        else record.source
        for record in records
    }


def common_folder(records: Sequence[ImageRecord]) -> str:
    """Return the deepest folder that has all sources; "" if there is none."""
    try:
        return os.path.commonpath([os.path.dirname(record.source) for record in records])
    except ValueError:  # No record, or several drives.
        return ""


def _has_coco(record: ImageRecord, folder: Path) -> bool:
    """Return whether a COCO file is there, and of the last prediction."""
    return not record.error and (folder / record.outputs.get("coco", "")).is_file()


def _row(record: ImageRecord, name: str) -> list:
    return [
        name,
        record.plane,
        record.height,
        record.width,
        record.objects,
        *(
            None if value is None else f"{value:.{digits}f}"
            for value, digits in (
                (record.mean_area, 2),
                (record.median_area, 1),
                (record.coverage, 6),
                (record.seconds, 3),
            )
        ),
        "failed" if record.error else "done",
        " ".join(record.error.split()),
    ]


def _git_revision() -> str | None:
    """Return the commit of the package's checkout, with "+" if files differ; None of no one."""
    root = Path(unet_sharp_det.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = [
        "git",
        "-C",
        str(root),
        "describe",
        "--always",
        "--exclude=*",
        "--abbrev=40",
        "--dirty=+",
    ]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
