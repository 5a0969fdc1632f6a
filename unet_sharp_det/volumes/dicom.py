"""The slices of a DICOM series in a folder, in order and complete."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import DatasetError

# By this share of the spacing slices may lie off an even grid.
_UNEVEN = 0.1


def series_files(folder: Path) -> tuple[str, ...]:
    """Return the files of the only series in a folder, in order.

    Raises:
        DatasetError: there is no series, or more than one, or its slices are unevenly spaced.
    """
    reader = sitk.ImageSeriesReader
    found = {
        uid: reader.GetGDCMSeriesFileNames(str(folder), uid)
        for uid in reader.GetGDCMSeriesIDs(str(folder))
    }
    if not found:
        raise DatasetError(f"{folder}: holds no DICOM slices. Name the folder that does.")
    if len(found) > 1:
        shown = ", ".join(f"{uid} ({len(files)} slices)" for uid, files in found.items())
        raise DatasetError(
            f"{folder}: holds {len(found)} DICOM series: {shown}. Move the slices of each into a "
            "folder of its own, and name that of one."
        )
    (files,) = found.values()
    _check_spacing(folder, files)
    return files


def _check_spacing(folder: Path, files: tuple[str, ...]) -> None:
    positions = np.array([_position(file) for file in files])
    order = np.argsort(positions, kind="stable")
    gaps = np.diff(positions[order])
    if len(gaps) == 0:
        return
    usual = np.median(gaps)
    worst = int(np.argmax(np.abs(gaps - usual)))
    if usual > 0 and abs(gaps[worst] - usual) <= _UNEVEN * usual:
        return
    lack = int(np.maximum(np.rint(gaps / max(usual, 1e-6)) - 1, 0).sum())
    before, after = (Path(files[index]).name for index in order[worst : worst + 2])
    raise DatasetError(
        f"{folder}: its slices are unevenly spaced ({lack} missing): from {before} to {after} "
        f"it is {gaps[worst]:.4g} mm, elsewhere {usual:.4g} mm. "
        "Copy the whole series again, each slice once."
    )


def _position(file: str) -> float:
    """Where a slice lies along its normal, in mm."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.ReadImageInformation()
    return float(np.dot(reader.GetOrigin(), reader.GetDirection()[2::3]))
