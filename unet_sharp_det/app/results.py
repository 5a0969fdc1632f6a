"""One archive of the files of all images in which objects were found."""

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..files import atomic_path, write_csv, write_json
from ..prediction.options import AUTO
from .analysis import Limits
from .isolation import IsolatedAnalyser
from .sessions import Image, Task


def write_archive(
    analyser: IsolatedAnalyser,
    done: Sequence[tuple[Image, Task]],
    path: Path,
    limits: Limits,
    pixel_size: tuple[float, float] | None,
    kinds: Sequence[str],
) -> None:
    """Write a zip archive of the objects within limits, a summary, and how they came about.

    Args:
        analyser: writes the files.
        done: images, and what one model found in each.
        path: of the archive.
        pixel_size: (y, x) in micrometres. None: as each file says.
        kinds: which of :data:`unet_sharp_det.outputs.OUTPUTS`.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name)
        rows = [
            analyser.write(task.folder, limits, pixel_size, folder / image.path.stem, list(kinds))
            for image, task in done
        ]
        write_csv(folder / "summary.csv", rows[0], [row.values() for row in rows])
        settings = {
            "unet_sharp_det": __version__,
            "limits": dict(limits),
            "pixel_size": pixel_size,
            "images": [_settings(*each, r["scale"]) for each, r in zip(done, rows, strict=True)],
        }
        write_json(folder / "settings.json", settings, indent=2)
        with (
            atomic_path(path) as temporary,  # An earlier one may be on its way to the browser.
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for each in sorted(folder.iterdir()):
                archive.write(each, each.name)


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
