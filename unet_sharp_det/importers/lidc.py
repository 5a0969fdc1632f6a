"""LIDC-IDRI: ``LIDC-IDRI-NNNN/<study>/<series>/*.dcm``, and an XML file of readings per series.

The XML files may lie in the folders of the series or anywhere else below the source. A voxel is
nodule where half of the scan's readers, or another share, drew one.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import ConfigError, DatasetError
from ..volumes import Volume
from ..volumes.dicom import read_header, series_files
from ..volumes.volume import ORIENTATION, to_image
from .dataset import Case, Summary, write_dataset
from .lidc_xml import Contour, Readings, readings_by_series
from .nodule_masks import consensus

LABELS = {0: "background", 1: "nodule"}

_SOP_UID, _SERIES_UID, _PATIENT, _MODALITY = "0008|0018", "0020|000e", "0010|0020", "0008|0060"


def convert(source, output, agreement: float = 0.5) -> Summary:
    """Import LIDC-IDRI; for ``source``, ``output`` and errors see :func:`write_dataset`.

    X-ray images are passed over. A case is a series and has its Series Instance UID as its id.

    Args:
        source: the folder of all patients.
        agreement: share of a scan's readers that makes a voxel a nodule, above 0 and at most 1.
    """
    source = Path(source)
    check_agreement(agreement)
    readings = readings_by_series(source)
    cases = [
        Case(series, patient, (folder,), partial(_labels, folder, readings.get(series), agreement))
        for folder, series, patient in _ct_series(source)
    ]
    if not cases:
        raise DatasetError(f"{source}: has no CT slices *.dcm. Give the folder of LIDC's patients.")
    settings = {"agreement": agreement}
    return write_dataset(
        "lidc", source, output, cases, modality=["CT"], labels=LABELS, settings=settings
    )


def check_agreement(agreement: float) -> None:
    """Raise a ConfigError if it is no share of readers."""
    if not 0 < agreement <= 1:
        raise ConfigError(f"--agreement {agreement}: is no share. Give e.g. 0.5, at most 1.")


def paint_readings(
    path: Path,
    volume: Volume,
    readings: Readings | None,
    slice_of: Callable[[Contour], int],
    agreement: float,
) -> np.ndarray:
    """Return the consensus of readers on the voxels of ``volume.array``, (D, H, W) uint8.

    Args:
        slice_of: the index of a contour's slice in the file; contours are in the file's pixels.

    Raises:
        DatasetError: there are no readings of the scan of this path.
    """
    if readings is None:
        raise DatasetError(f"{path}: no XML file has readings of it. Add LIDC's XML files.")
    mask = consensus(readings, volume.native.size[::-1], slice_of, agreement)
    return sitk.GetArrayFromImage(sitk.DICOMOrient(to_image(mask, volume.native), ORIENTATION))


def _ct_series(source: Path):
    """Yield folder, series and patient of each CT, by the first header that can be read."""
    for folder in sorted({path.parent for path in source.rglob("*.dcm")}):
        headers = filter(None, map(_header, sorted(folder.glob("*.dcm"))))
        if (header := next(headers, None)) is None:
            yield folder, folder.name, folder.name  # It cannot be read, as will be told.
        elif header(_MODALITY) == "CT":
            yield folder, header(_SERIES_UID), header(_PATIENT)


def _header(path) -> Callable[[str], str] | None:
    """A function of a tag, as 0008|0018, that returns its value in a DICOM file, if it is one."""
    try:
        reader = read_header(path)
        reader.GetMetaData(_SERIES_UID)
    except RuntimeError:
        return None
    # Values are padded to even length, UIDs by a zero byte.
    return lambda tag: reader.GetMetaData(tag).strip(" \0")


def _labels(
    folder: Path, readings: Readings | None, agreement: float, volume: Volume
) -> np.ndarray:
    slices = {_header(path)(_SOP_UID): index for index, path in enumerate(series_files(folder))}

    def slice_of(contour: Contour) -> int:
        if contour.sop_uid not in slices:
            raise DatasetError(
                f"{readings.path}: has an outline on a slice (z = {contour.z}) that {folder} "
                "lacks. Download the series again."
            )
        return slices[contour.sop_uid]

    return paint_readings(folder, volume, readings, slice_of, agreement)
