"""Volumes out of NIfTI, MetaImage, NRRD and TIFF files, and of folders with a DICOM series."""

import gzip
import math
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import DatasetError
from ..files import ending_of, safe_join
from ..images.directories import open_checked
from .dicom import read_header, series_files
from .volume import ORIENTATION, Geometry, Volume, reason_of

_HEADER = 2**16
_DATA_FILE = re.compile(r"^(?:ElementDataFile *=|data ?file:) *(.+)", re.MULTILINE)


def read_volume(paths) -> Volume:
    """Read a scan.

    Values are those that are meant: HU of a CT, by the rescale slope and intercept of DICOM or
    NIfTI. Axes are reversed and swapped by the file's own direction; voxels stay what they are.
    A TIFF stack has no spacing: it is 1.

    Args:
        paths: a file, or a folder with the slices of one DICOM series, or one slice of a series in
            a folder of several; or a list of them, one for each channel, as of the modalities of
            an MR examination.

    Returns:
        float32, or the file's integers; see :class:`Volume`.

    Raises:
        DatasetError: a file cannot be read, is truncated, no volume of gray values, empty (no
            voxel, or all of one value), or holds NaN, which ITK makes 0 of in a NIfTI; slices of a
            series lack; channels differ in geometry.

    Example::

        scan = read_volume("volume-0.nii")
        scan.array.shape, scan.geometry.spacing     # (1, 75, 512, 512), (0.7, 0.7, 5.0)
        write_volume("mask.nii.gz", (scan.array[0] > 100).astype("uint8"), like=scan)
    """
    paths = list(paths) if isinstance(paths, Iterable) and not isinstance(paths, str) else [paths]
    if not paths:
        raise DatasetError("There is no volume to read. Give a file, or one for each channel.")
    first, *others = volumes = [_read(Path(path)) for path in paths]
    for path, volume in zip(paths, volumes, strict=True):
        _check_same(path, volume, first, paths[0])
        _check_values(path, volume.array)
    if not others:
        return first
    array = np.concatenate([each.array for each in volumes])
    return Volume(array, first.geometry, first.native)


def read_labels(path, like: Volume | None = None) -> Volume:
    """Read a mask: integers (1, D, H, W).

    Args:
        like: the scan that it belongs to.

    Raises:
        DatasetError: as :func:`read_volume`, though a mask may be of one value; labels are not
            whole numbers, or on other voxels than those of ``like``.
    """
    volume = _read(Path(path))
    if like is not None:
        _check_same(path, volume, like, "its scan")
    if volume.array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            labels = volume.array.astype(np.int32)
        if not np.array_equal(labels, volume.array):
            raise DatasetError(
                f"{path}: holds fractions, or numbers of more than 32 bits, but labels must be "
                "whole numbers. Give the mask, not the scan or probabilities."
            )
        volume = Volume(labels, volume.geometry, volume.native)
    return volume


def _read(path: Path) -> Volume:
    image = _read_image(path)
    components = image.GetNumberOfComponentsPerPixel()
    is_complex = "complex" in image.GetPixelIDTypeAsString()
    if image.GetDimension() != 3 or components != 1 or is_complex:
        what = f"{components} values per voxel" if components > 1 else f"{image.GetDimension()}D"
        what = "complex values" if is_complex else what
        raise DatasetError(
            f"{path}: is no volume of gray values (it has {what}). Save each channel as a 3D file."
        )
    if 0 in image.GetSize():
        raise DatasetError(f"{path}: is empty, its size is {image.GetSize()}. Export it anew.")
    native = Geometry.of(image)
    image = sitk.DICOMOrient(image, ORIENTATION)
    array = sitk.GetArrayFromImage(image)[None]
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    return Volume(array, Geometry.of(image), native)


def _read_image(path: Path) -> sitk.Image:
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # What matters becomes an error here.
    if not path.exists():
        raise DatasetError(f"{path}: does not exist. Name a volume, or a folder of DICOM slices.")
    try:
        kind = "" if path.is_dir() else sitk.ImageFileReader.GetImageIOFromFileName(str(path))
        if path.is_dir() or kind == "GDCMImageIO":
            files = series_files(path)
            return sitk.ReadImage(files if len(files) > 1 else files[0])
        if ending_of(path) in (".nii", ".nii.gz"):
            header = read_header(path)
            _check_spacing(path, header)
            _check_length(path, header)
        elif ending_of(path) in (".mhd", ".mha", ".nhdr", ".nrrd"):
            _check_data_files(path)
        elif kind == "TIFFImageIO":
            _check_pages(path)
        return sitk.ReadImage(str(path))
    except (RuntimeError, OSError, EOFError, zlib.error) as error:
        raise DatasetError(
            f"{path}: cannot be read, it is truncated, corrupt or of a kind not known "
            f"({reason_of(error)}). Copy or export it again."
        ) from error


def _check_data_files(path: Path) -> None:
    """Raise a DatasetError if a header of MetaImage or NRRD names voxels out of its folder."""
    with path.open("rb") as file:
        header = re.split(rb"\r?\n\r?\n", file.read(_HEADER))[0].decode("latin-1")
    if found := _DATA_FILE.search(header):
        first, *others = header[found.start(1) :].splitlines()
        for name in others if first.startswith("LIST") else [first]:
            safe_join(path.parent, name.strip(), str(path))


def _check_pages(path: Path) -> None:
    """Raise a DatasetError if a TIFF ends before its last page, or has fewer than ImageJ or OME
    say in its description."""
    tiff, _ = open_checked(path)
    with tiff:
        said = re.findall(r'(?:^images=|\bSize[ZCT]=")(\d+)', tiff.pages.first.description, re.M)
        planes = math.prod(map(int, said[:3]))
        if len(tiff.pages) < planes:
            raise DatasetError(
                f"{path}: holds {len(tiff.pages)} of the {planes} pages that it says. Export it "
                "anew."
            )


def _check_spacing(path: Path, reader: sitk.ImageFileReader) -> None:
    """Raise a DatasetError if ``pixdim``, where ITK replaces 0 and NaN by 1, is not ``sform``'s."""
    if int(reader.GetMetaData("sform_code")) == 0:
        return
    pixdim = np.abs([float(reader.GetMetaData(f"pixdim[{axis}]")) for axis in (1, 2, 3)])
    rows = [reader.GetMetaData(f"srow_{axis}").split()[:3] for axis in "xyz"]
    sform = np.linalg.norm(np.array(rows, float), axis=0)
    if not np.allclose(sform, pixdim, rtol=0.01):
        raise DatasetError(
            f"{path}: its header says two spacings, pixdim {np.round(pixdim, 4)} and sform "
            f"{np.round(sform, 4)} mm. Mend it, or export it anew."
        )


def _check_length(path: Path, reader: sitk.ImageFileReader) -> None:
    """Raise EOFError of a truncated NIfTI, whose missing voxels ITK leaves as they come."""
    bits = int(reader.GetMetaData("bitpix")) * math.prod(reader.GetSize())
    last = int(float(reader.GetMetaData("vox_offset"))) + bits // 8 - 1
    with gzip.open(path) if ending_of(path) == ".nii.gz" else path.open("rb") as file:
        file.seek(last)
        if not file.read(1):
            raise EOFError("voxels are missing at its end")
        file.read()  # To the end, where gzip's checksum is.


def _check_same(path, volume: Volume, other: Volume, whose) -> None:
    if not volume.geometry.matches(other.geometry):
        raise DatasetError(
            f"{path}: lies on other voxels ({volume.geometry}) than {whose} ({other.geometry}). "
            "Pair the files that belong together, or resample one."
        )


def _check_values(path, array: np.ndarray) -> None:
    least, most = array.min(), array.max()
    if not np.isfinite([least, most]).all():
        raise DatasetError(f"{path}: holds NaN or infinite voxels. Replace them.")
    if least == most:
        raise DatasetError(f"{path}: is empty, every voxel is {least}. Export it anew.")
