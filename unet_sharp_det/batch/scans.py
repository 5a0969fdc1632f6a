"""Prediction of many scans into a folder: as images, but each is a volume, or one per channel."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np
from scipy import ndimage

from ..errors import UserError
from ..files import atomic_path, ending_of, split_name
from ..masks.drawing import draw_planes
from ..masks.watershed import split_objects
from ..prediction import VolumePredictor
from ..volumes import Volume, read_volume, write_volume
from ..volumes.writing import WRITTEN
from .inputs import GONE, InputFile
from .run import run_files
from .summary import RunSummary
from .units import Outline

#: What follows the name of a scan in those of its outputs; {} is the ending of a format.
_ENDINGS = {"labels": "_labels{}", "planes": "_planes.png", "objects": "_objects{}"}


@dataclass(frozen=True)
class ScanFile(InputFile):
    """A scan, by the path of its first channel: a file, or the folder of a DICOM series."""

    others: tuple[Path, ...]  # paths of the other channels

    @property
    def stem(self) -> str:
        """What outputs are named by."""
        return self.path.name if self.path.is_dir() else split_name(self.path)[0]

    def stamp(self) -> str:
        """As of an image, of all files."""
        paths = [self.path, *self.others]
        try:
            folders = [path.iterdir() if path.is_dir() else [path] for path in paths]
            found = [os.stat(file) for files in folders for file in files]
        except OSError:
            return GONE
        size = sum(each.st_size for each in found)
        time = max((each.st_mtime_ns for each in found), default=0)
        return " ".join([f"{size}-{time}", *map(str, self.others)])

    def output_paths(self, stem: Path, names: Sequence[str]) -> list[Path]:
        """Return where each of some outputs is written: with the scan's ending, or .nii.gz."""
        ending = ending_of(self.path)
        ending = ending if ending in WRITTEN and not self.path.is_dir() else ".nii.gz"
        return [Path(f"{stem}{_ENDINGS[name].format(ending)}") for name in names]


@dataclass(frozen=True)
class _Scan:
    """What is read of a scan."""

    name: str
    volume: Volume

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        return self.volume.array.shape[1:]


@dataclass(frozen=True)
class ScanWork:
    """The work on scans, as :class:`.ImageWork`; see :func:`predict_scans` for the attributes."""

    predictor: VolumePredictor
    object_distance: float | None
    at_once = 1

    def outline(self, file: ScanFile) -> dict[str, Outline]:
        """Read a scan, which is one plane to a run."""
        scan = _Scan(str(file.path), read_volume([file.path, *file.others]))
        return {"": Outline(scan.shape, lambda: scan)}

    def find(self, scans: Sequence[_Scan], progress: Callable[[int], None]) -> list[np.ndarray]:
        """Return the labels (D, H, W) of each scan."""
        return [self.predictor(scan.volume, scan.name) for scan in scans]

    def write(
        self, scan: _Scan, labels: np.ndarray, stem: Path, outputs: Mapping[str, Path]
    ) -> np.ndarray:
        """Write outputs, and return the sizes in voxels of the objects, or of all that is one."""
        volume, spacing = scan.volume, scan.volume.geometry.spacing[::-1]
        if "objects" in outputs:
            objects = split_objects(labels > 0, spacing, self.object_distance)
            write_volume(outputs["objects"], objects, like=volume)
        else:
            objects = labels if self.predictor.labels.finds_objects else ndimage.label(labels)[0]
        with atomic_path(outputs["planes"]) as temporary:
            picture = draw_planes(volume.array[0], labels, spacing)
            temporary.write_bytes(cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes())
        write_volume(outputs["labels"], labels, like=volume)
        return np.bincount(objects.ravel())[1:]


def predict_scans(
    predictor: VolumePredictor,
    inputs: Sequence,
    output,
    *,
    channels: int = 1,
    object_distance: float | None = None,
    overwrite: bool = False,
    weights: Mapping[str, str] | None = None,
    progress: TextIO | None = None,
) -> RunSummary:
    """Label the voxels of scans, and write them to a folder, as :func:`.predict_files` does.

    Args:
        inputs: paths of scans, or of the channels of each in turn; a folder is a DICOM series.
        channels: of the model.
        object_distance: also writes objects, see :func:`split_objects`. None: not.
        output, overwrite, weights, progress: see :func:`.predict_files`.

    Raises:
        UserError: the inputs are no multiple of the channels, the model parts objects itself, or
            see :func:`.predict_files`.
    """
    if predictor.labels.finds_objects and object_distance is not None:
        raise UserError(
            "--object-distance: this model finds objects, which a_labels holds. Leave it out."
        )
    if len(inputs) % channels:
        raise UserError(
            f"The model sees {channels} channels, but there are {len(inputs)} INPUTs. Give the "
            "channels of each scan in turn, in the order of the training."
        )
    paths = [Path(os.path.abspath(os.path.expanduser(each))) for each in inputs]
    scans = dict.fromkeys(zip(*[iter(paths)] * channels, strict=True))
    files = [ScanFile(first, first.parent, tuple(others)) for first, *others in scans]
    outputs = ("labels", "planes") if object_distance is None else tuple(_ENDINGS)
    settings = {**(weights or {}), "object_distance": object_distance}
    result, work = RunSummary(Path(output)), ScanWork(predictor, object_distance)
    run_files(work, files, result, settings, outputs, overwrite, progress)
    return result
