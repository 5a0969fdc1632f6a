"""LUNA16: ``subset0`` to ``subset9`` with ``<seriesuid>.mhd`` and ``.raw``, ``annotations.csv``.

Subset 8 validates, subset 9 tests.
LUNA16 has no masks of nodules. They are spheres of the diameters in ``annotations.csv``, or what
the readers of LIDC drew, if its XML files are given.
"""

import csv
import logging
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import ConfigError, DatasetError, library_errors
from ..volumes import Volume
from .dataset import Case, Summary, write_dataset
from .lidc import LABELS, check_agreement, paint_readings
from .lidc_xml import Contour, Readings, readings_by_series
from .nodule_masks import paint_sphere

_log = logging.getLogger(__name__)


def convert(source, output, lidc_xml=None, agreement: float | None = None) -> Summary:
    """Import LUNA16; for ``source``, ``output`` and errors see :func:`write_dataset`.

    Args:
        source: the folder of the subsets and of ``annotations.csv``.
        lidc_xml: a folder with LIDC's XML files.
        agreement: with ``lidc_xml``, the share of readers that makes a voxel a nodule. None: half.
    """
    source = Path(source)
    if agreement is not None and not lidc_xml:
        raise ConfigError("--agreement is of LIDC's readers. Give --lidc-xml too, or leave it out.")
    agreement = 0.5 if agreement is None else agreement
    check_agreement(agreement)
    volumes = sorted(source.glob("subset[0-9]/**/*.mhd"))
    if not volumes:
        raise DatasetError(f"{source}: has no subset0/*.mhd. Give the folder of LUNA16's subsets.")
    if lidc_xml:
        readings = readings_by_series(Path(lidc_xml))
        paint = {
            path.stem: partial(_drawn, path, readings.get(path.stem), agreement) for path in volumes
        }
        settings = {"lidc_xml": str(Path(lidc_xml).resolve()), "agreement": agreement}
    else:
        nodules = _read_annotations(source / "annotations.csv", {path.stem for path in volumes})
        paint = {path.stem: partial(_spheres, path, nodules[path.stem]) for path in volumes}
        settings = {"lidc_xml": None}
    parts = {"subset8": "val", "subset9": "test"}
    cases = []
    for path in volumes:
        split = parts.get(path.relative_to(source).parts[0], "train")
        cases.append(Case(path.stem, path.stem, (path,), paint[path.stem], split))
    return write_dataset(
        "luna16", source, output, cases, modality=["CT"], labels=LABELS, settings=settings
    )


def _read_annotations(path: Path, known: set[str]) -> dict[str, list[tuple[float, ...]]]:
    """Return x, y, z and diameter in mm of the nodules of each series."""
    if not path.is_file():
        raise DatasetError(f"There is no file {path}. Lay LUNA16's annotations.csv there.")
    nodules = defaultdict(list)
    columns = ("coordX", "coordY", "coordZ", "diameter_mm")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        for row in rows:
            fault = f"{path}, line {rows.line_num}: is not seriesuid, {', '.join(columns)}"
            with library_errors(fault, "Download the file again."):
                nodules[row["seriesuid"]].append(tuple(float(row[name]) for name in columns))
    if absent := nodules.keys() - known:
        _log.warning("%s: %d of its series have no volume: %s ...", path, len(absent), min(absent))
    return nodules


def _spheres(path: Path, nodules: list[tuple[float, ...]], volume: Volume) -> np.ndarray:
    labels = np.zeros(volume.array.shape[1:], np.uint8)
    for *centre, diameter in nodules:
        if not paint_sphere(labels, volume.geometry, centre, diameter):
            raise DatasetError(
                f"{path}: a nodule of annotations.csv, at {tuple(centre)} mm, lies outside. "
                "Download both files again."
            )
    return labels


def _drawn(path: Path, readings: Readings | None, agreement: float, volume: Volume) -> np.ndarray:
    # A MetaImage has no UIDs of slices, but lies where the DICOM slices do.
    native = volume.native
    step = native.spacing[2] * native.direction[8]

    def slice_of(contour: Contour) -> int:
        index = round((contour.z - native.origin[2]) / step)
        if not 0 <= index < native.size[2]:
            raise DatasetError(
                f"{readings.path}: has an outline at z = {contour.z} mm, outside of {path}. "
                "Download both files again."
            )
        return index

    return paint_readings(path, volume, readings, slice_of, agreement)
