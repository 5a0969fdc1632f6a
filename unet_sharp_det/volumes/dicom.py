"""The slices of a DICOM series in a folder, in order and complete."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import DatasetError

# By this share of the spacing slices may lie off an even grid.
_UNEVEN = 0.1


def series_files(path: Path) -> tuple[str, ...]:
    """Return the files of a series, in order: the only one of a folder, or the one of a slice.

    A file of several frames is a series by itself.

    Raises:
        DatasetError: there is no series, or a folder has more than one; a slice cannot be read, or
            is the only one, or they are unevenly spaced.
    """
    if path.is_file() and _has_frames(path):
        return (str(path),)
    folder = path if path.is_dir() else path.parent
    reader = sitk.ImageSeriesReader
    uids = reader.GetGDCMSeriesIDs(str(folder))
    found = [reader.GetGDCMSeriesFileNames(str(folder), uid) for uid in uids]
    _check_unread(folder, found)
    if path.is_file():
        found = [files for files in found if path.name in _names(files)]
    if not found:
        raise DatasetError(f"{path}: holds no DICOM slices. Name the folder that does.")
    if len(found) > 1:
        raise DatasetError(
            f"{path}: holds {len(found)} DICOM series: {'; '.join(map(_describe, found))}. Give "
            "the path of one slice of the series that you mean."
        )
    (files,) = found
    if len(files) == 1 and not _has_frames(files[0]):
        raise DatasetError(f"{path}: is a series of one slice, no volume. Copy all its slices.")
    _check_spacing(folder, files)
    return files


def _names(files: Iterable[str]) -> list[str]:
    return [Path(file).name for file in files]


def _describe(files: tuple[str, ...]) -> str:
    header, key = read_header(files[0]), "0008|103e"
    name = header.GetMetaData(key).strip() if header.HasMetaDataKey(key) else ""
    return f"'{name}' with {len(files)} slices, as {Path(files[0]).name}"


def _check_unread(folder: Path, found: list[tuple[str, ...]]) -> None:
    """Raise a DatasetError if GDCM passed over a file of the kind of those that it read."""
    kinds = {b"", *(_kind(Path(files[0])) for files in found)} - {None}
    read = {name for files in found for name in _names(files)}
    for path in sorted(folder.iterdir()):
        if path.name not in read and path.is_file() and _kind(path) in kinds:
            raise DatasetError(
                f"{path}: is no slice that can be read, it is truncated or corrupt. Copy it again."
            )


def _kind(path: Path) -> bytes | None:
    """The SOP class of a DICOM file; b"" if its begin does not say it, None if it is no DICOM."""
    with path.open("rb") as file:
        head = file.read(1024)
    if path.suffix.lower() != ".dcm" and head[128:132] != b"DICM":
        return None
    uid = re.search(rb"1\.2\.840\.10008\.[\d.]+", head)
    return uid[0] if uid else b""


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
    header = read_header(file)
    return float(np.dot(header.GetOrigin(), header.GetDirection()[2::3]))


def _has_frames(file) -> bool:
    return read_header(file).GetSize()[2] > 1


def read_header(file) -> sitk.ImageFileReader:
    """Read the header of a file. Raises a RuntimeError as SimpleITK does."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.ReadImageInformation()
    return reader
