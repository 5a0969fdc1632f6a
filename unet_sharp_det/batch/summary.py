"""What stands in an output folder as a whole: a table, one COCO data set, and how it was made."""

import contextlib
import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from ..addresses import address_of
from ..files import atomic_path, write_csv, write_json
from ..provenance import git_state, versions
from .inputs import natural_key
from .records import ImageRecord, Records

COLUMNS = (
    *("image", "plane", "height", "width", "objects"),
    *("mean_area_px", "median_area_px", "coverage", "status", "error"),
)


@dataclass
class RunSummary:
    """What a run did."""

    output: Path
    predicted: int = 0  # images, i.e. planes of files
    skipped: int = 0  # files that were done before
    failed: list[ImageRecord] = field(default_factory=list)
    objects: int = 0
    seconds: float = 0.0
    not_read: list[Path] = field(default_factory=list)  # see find_files
    started: float = field(default_factory=time.time)


def write_summaries(
    records: Records, outputs: Collection[str], result: RunSummary, finished: bool, device: str
) -> None:
    """Write ``summary.csv``, ``predict.json`` and, of a finished run, ``coco.json``.

    Args:
        records: of the folder.
        outputs: names of the run's outputs.
        result, finished, device: what ``predict.json`` says of the run.
    """
    kept = _in_order(records)
    folder, names = _image_names(kept)
    write_csv(records.folder / "summary.csv", COLUMNS, (_row(each, names) for each in kept))
    content = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(result.started)),
        "finished": finished,
        "skipped_files": result.skipped,
        "predicted_images": result.predicted,
        "failed_images": len(result.failed),
        "not_read_files": len(result.not_read),
        "objects": result.objects,
        "seconds": round(result.seconds, 3),
        "device": device,
        "outputs": list(outputs),
        "settings": records.settings,
        "common_folder": folder,
        **git_state(),
        "versions": versions(),
    }
    write_json(records.folder / "predict.json", content, indent=2)
    if not finished:
        return
    if "coco" in outputs or any("coco" in record.outputs for record in kept):
        _write_coco(records.folder, kept, names)
    else:
        records.delete_joined_coco()


def _in_order(records: Records) -> list[ImageRecord]:
    """Return the records that still say something, sorted by path and plane.

    Those of outputs that were removed don't, nor failures of files that are gone.
    """
    kept = [
        record
        for record in records
        if (record.error and (os.path.lexists(record.source) or address_of(record.source)))
        or (record.is_done and records.has_outputs(record))
    ]
    return sorted(kept, key=lambda record: (natural_key(record.source), natural_key(record.plane)))


def _image_names(records: Sequence[ImageRecord]) -> tuple[str, dict[str, str]]:
    """Return the deepest folder that has all sources, and the path of each below it."""
    folder, sources = "", [record.source for record in records]
    with contextlib.suppress(ValueError):  # There are none, or addresses beside files.
        folder = os.path.commonpath([os.path.dirname(each) for each in sources])
    return folder, {each: os.path.relpath(each, folder) if folder else each for each in sources}


def _row(record: ImageRecord, names: Mapping[str, str]) -> tuple:
    return (
        *(names[record.source], record.plane, record.height, record.width),
        *(record.objects, _rounded(record.mean_area, 2)),
        *(_rounded(record.median_area, 1), _rounded(record.coverage, 6)),
        *("failed" if record.error else "done", " ".join(record.error.split())),
    )


def _rounded(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _write_coco(folder: Path, records: Sequence[ImageRecord], names: Mapping[str, str]) -> None:
    """Join the COCO files of all images, one in memory at a time.

    The name of an image is as in its own file, after its folders below the common folder.
    """
    from ..outputs import merge_coco  # It takes a while.

    images, count, head = [], 0, {}
    with atomic_path(folder / "coco.json") as temporary:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write('{"annotations": [')
            for record in records:
                path = folder / record.outputs.get("coco", "")
                if record.error or not path.is_file():
                    continue
                head = merge_coco([path])
                (image,), annotations = head.pop("images"), head.pop("annotations")
                name = PurePath(names[record.source]).with_name(image["file_name"]).as_posix()
                images.append({**image, "id": len(images) + 1, "file_name": name})
                for annotation in annotations:
                    annotation |= {"id": count + 1, "image_id": len(images)}
                    file.write((",\n" if count else "\n") + json.dumps(annotation))
                    count += 1
            file.write("\n], " + json.dumps({**head, "images": images})[1:] + "\n")
