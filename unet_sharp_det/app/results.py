"""One archive of the files of all images in which objects were found."""

import csv
import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..prediction.options import AUTO
from .analysis import Limits
from .isolation import IsolatedAnalyser
from .sessions import Image, Task


def write_archive(
    analyser: IsolatedAnalyser,
    done: Sequence[tuple[Image, Task]],
    folder: Path,
    path: Path,
    limits: Limits,
    pixel_size: tuple[float, float] | None,
    kinds: Sequence[str],
) -> None:
    """Write a zip archive of the objects within limits, a summary, and how they came about.

    Args:
        analyser: writes the files.
        done: images, and what one model found in each.
        folder: an empty one, for the files; it is removed.
        path: of the archive.
        pixel_size: (y, x) in micrometres. None: as each file says.
        kinds: which of :data:`unet_sharp_det.outputs.OUTPUTS`.
    """
    rows = [
        analyser.write(task.folder, limits, pixel_size, folder / image.stem, list(kinds))
        for image, task in done
    ]
    with open(folder / "summary.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    settings = {
        "unet_sharp_det": __version__,
        "limits": dict(limits),
        "pixel_size": pixel_size,
        "images": [_settings(*each, row["scale"]) for each, row in zip(done, rows, strict=True)],
    }
    (folder / "settings.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in sorted(folder.iterdir()):
            archive.write(each, each.name)
    shutil.rmtree(folder)


def _settings(image: Image, task: Task, scale: float) -> dict:
    return {
        "file": image.path.name,
        "model": task.search.model,
        "scale": scale if task.search.diameter else AUTO,
        "diameter": task.search.diameter,
        "plane": task.view.plane,
        "maximum_over_z": task.view.projected,
        "channels": [image.file.channels[number] for number in task.view.channels],
    }
