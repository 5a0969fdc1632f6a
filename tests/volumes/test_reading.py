"""Volumes are read as they lie in the patient, and what is wrong with a file is said."""

import gzip
import re

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from volume_files import TURNS, scan, write_series

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.volumes import read_labels, read_volume

STORED = np.random.default_rng(0).integers(0, 3000, (5, 8, 6)).astype(np.uint16)


def save(image, path):
    sitk.WriteImage(image, str(path))
    return path


def image_of(array, is_vector=False):
    return sitk.GetImageFromArray(array, is_vector)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"])
def test_axes_are_those_of_the_patient(turn, ending, tmp_path):
    volume = read_volume(save(scan(TURNS[turn]), tmp_path / f"a{ending}"))

    heights = volume.array[0] / 10
    x, y, z = volume.geometry.spacing
    axes = np.reshape(volume.geometry.direction, (3, 3))
    start = volume.geometry.origin[2]
    d, h, w = np.indices(heights.shape)
    assert heights == pytest.approx(
        start + axes[2, 0] * w * x + axes[2, 1] * h * y + axes[2, 2] * d * z, abs=0.06
    )
    assert volume.geometry.orientation == "LPS"
    assert (np.diag(axes) > 0.5).all()
    assert volume.native.size == (6, 5, 4)


def test_values_are_those_that_a_nifti_means(tmp_path):
    """By scl_slope and scl_inter (bytes 112 to 120 of the header)."""
    data = bytearray(save(image_of(STORED), tmp_path / "a.nii").read_bytes())
    data[112:120] = np.array([2, -1000], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(data)
    volume = read_volume(tmp_path / "a.nii")
    assert np.array_equal(volume.array[0], STORED * 2.0 - 1000)
    assert volume.array.dtype == np.float32


@pytest.mark.parametrize("transfer", ["plain", "JPEG-LS", "JPEG 2000"])
def test_a_dicom_series_is_read_in_hounsfield_units(transfer, tmp_path):
    volume = read_volume(write_series(tmp_path / "ct", STORED, transfer=transfer))
    assert np.array_equal(volume.array[0], STORED.astype(int) - 1024)
    assert volume.geometry.spacing == (0.5, 1.5, 2.0)


def test_a_tiff_stack_is_a_volume_without_spacing(tmp_path):
    volume = read_volume(save(image_of(STORED), tmp_path / "a.tif"))
    assert np.array_equal(volume.array[0], STORED)
    assert volume.geometry.spacing == pytest.approx((1, 1, 1))


def test_channels_are_files(tmp_path):
    paths = [save(image_of(STORED + n), tmp_path / f"{n}.nii") for n in range(2)]
    assert read_volume(paths).array.shape == (2, *STORED.shape)
    paths.append(save(image_of(STORED[1:]), tmp_path / "short.nii"))
    with pytest.raises(DatasetError, match=r"short.nii: lies on other voxels .*0.nii"):
        read_volume(paths)


def test_a_missing_slice_is_counted(tmp_path):
    folder = write_series(tmp_path / "ct", STORED)
    (folder / "1.2.3.2.dcm").unlink()
    with pytest.raises(DatasetError, match=r"1 missing.*3.1.dcm to 1.2.3.3.dcm it is 4 mm"):
        read_volume(folder)


def test_a_slice_that_is_there_twice_is_said(tmp_path):
    folder = write_series(tmp_path / "ct", STORED)
    twice = (folder / "1.2.3.2.dcm").read_bytes().replace(b"1.2.3.2", b"1.2.3.9")
    (folder / "again.dcm").write_bytes(twice)
    with pytest.raises(DatasetError, match=r"it is 0 mm.*each slice once"):
        read_volume(folder)


def test_two_series_in_a_folder_are_named(tmp_path):
    write_series(tmp_path / "ct", STORED)
    folder = write_series(tmp_path / "ct", STORED[:3], uid="1.2.4")
    with pytest.raises(
        DatasetError, match=r"5 slices, as 1.2.3.0.dcm; .* 3 slices, as 1.2.4.0.dcm. Give the path"
    ):
        read_volume(folder)


def test_a_slice_names_its_series(tmp_path):
    write_series(tmp_path / "ct", STORED)
    folder = write_series(tmp_path / "ct", STORED[:3], uid="1.2.4")
    assert np.array_equal(read_volume(folder / "1.2.4.1.dcm").array[0], STORED[:3] - 1024.0)


@pytest.mark.parametrize(("number", "length"), [(0, -20), (4, -20), (4, 200), (4, 0)])
def test_a_truncated_slice_is_named(number, length, tmp_path):
    slices = [write_series(tmp_path / "ct", STORED) / f"1.2.3.{n}.dcm" for n in range(5)]
    slices[number].write_bytes(slices[number].read_bytes()[:length])
    with pytest.raises(DatasetError, match=rf"1.2.3.{number}.dcm: is no slice that can be read"):
        read_volume(tmp_path / "ct")


def test_dicom_files_of_another_kind_are_no_slices(tmp_path):
    import pydicom

    folder = write_series(tmp_path / "ct", STORED)
    structures = pydicom.dcmread(folder / "1.2.3.0.dcm")
    del structures.PixelData
    structures.SOPClassUID = structures.file_meta.MediaStorageSOPClassUID = (
        pydicom.uid.RTStructureSetStorage
    )
    structures.save_as(folder / "structures.dcm")
    assert read_volume(folder).array.shape == (1, *STORED.shape)


def test_one_slice_is_no_volume(tmp_path):
    with pytest.raises(DatasetError, match="is a series of one slice, no volume"):
        read_volume(write_series(tmp_path / "ct", STORED[:1]))


def test_errors_of_itk_have_no_addresses(tmp_path):
    folder = write_series(tmp_path / "ct", STORED[:3])
    write_series(tmp_path / "ct", [np.zeros((8, 6)), *STORED[:1, :4]])
    with pytest.raises(DatasetError, match=r"not known \(ImageIO returns IO region") as error:
        read_volume(folder)
    assert not re.search("0x|xx:", str(error.value))


@pytest.mark.parametrize(
    ("offset", "value"),
    [(80, 0.0), (80, np.nan), (88, 9.0)],
    ids=["no spacing", "NaN", "pixdim and sform disagree"],
)
def test_a_nifti_of_two_spacings_is_refused(offset, value, tmp_path):
    image = image_of(STORED)
    image.SetSpacing((2, 2, 2))
    data = bytearray(save(image, tmp_path / "a.nii").read_bytes())
    data[offset : offset + 4] = np.array([value], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(data)
    with pytest.raises(DatasetError, match="says two spacings"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
@pytest.mark.parametrize("name", ["../other/a.raw", "/etc/passwd", "LIST\n../other/a.raw"])
def test_voxels_out_of_the_header_s_folder_are_refused(ending, name, tmp_path):
    (tmp_path / "mine").mkdir()
    path = save(image_of(STORED), tmp_path / "mine" / f"a{ending}")
    assert np.array_equal(read_volume(path).array[0], STORED)
    path.write_text(re.sub("a(.z)?raw(.gz)?|a.raw(.gz)?", name, path.read_text()))
    with pytest.raises(DatasetError, match="could lead out of"):
        read_volume(path)


def test_truncated_files_are_no_volumes(tmp_path):
    for ending in (".nii", ".nii.gz", ".mha", ".nrrd"):
        path = save(image_of(STORED), tmp_path / f"a{ending}")
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])
        with pytest.raises(DatasetError, match=rf"a{ending}: cannot be read, it is truncated"):
            read_volume(path)
    path = save(image_of(STORED), tmp_path / "trailer.nii.gz")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DatasetError, match="truncated"):
        read_volume(path)
    with gzip.open(tmp_path / "short.nii.gz", "wb") as file:  # A sound archive of a short file.
        file.write(gzip.decompress(gzip.compress(data))[:400])
    with pytest.raises(DatasetError, match="truncated"):
        read_volume(tmp_path / "short.nii.gz")


@pytest.mark.parametrize("options", [{}, {"imagej": True}, {"ome": True}])
def test_a_truncated_stack_of_pages_is_refused(options, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STORED, **options)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        fourth, description = tiff.pages[3].offset, tiff.pages[0].description
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:fourth])
    with pytest.raises(DatasetError, match="b.tif: is corrupt: it is truncated"):
        read_volume(tmp_path / "b.tif")
    if options:
        again = {"description": description, "metadata": None, "photometric": "minisblack"}
        tifffile.imwrite(tmp_path / "c.tif", STORED[:3], **again)
        with pytest.raises(DatasetError, match="c.tif: holds 3 of the 5 pages that it says"):
            read_volume(tmp_path / "c.tif")


def test_metadata_of_a_nifti_does_no_harm_in_another_format(tmp_path):
    image = sitk.ReadImage(str(save(image_of(STORED * 0 + 7), tmp_path / "a.nii")))
    image[0, 0, 0] = 1
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"), useCompression=True)
    assert read_volume(tmp_path / "a.nrrd").array.max() == 7


@pytest.mark.parametrize(
    ("array", "is_vector", "problem"),
    [
        (STORED[0], False, "it has 2D"),
        (np.stack([STORED] * 2), False, "it has 4D"),
        (np.stack([STORED.astype(np.uint8)] * 3, axis=-1), True, "3 values per voxel"),
        (STORED * 0, False, "is empty, every voxel is 0"),
        (np.where(STORED > 2000, np.nan, 1.0), False, "NaN"),
    ],
)
def test_what_is_no_scan_is_refused(array, is_vector, problem, tmp_path):
    path = save(image_of(array, is_vector), tmp_path / "a.mha")
    with pytest.raises(DatasetError, match=rf"a\.mha: .*{problem}"):
        read_volume(path)


def test_no_volume_at_all(tmp_path):
    header = "NDims = 3\nDimSize = 0 3 4\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_text(f"ObjectType = Image\n{header}")
    for path, problem in {
        tmp_path / "a.mha": r"is empty, its size is \(0, 3, 4\)",
        tmp_path / "b.nii": "does not exist",
        tmp_path: "holds no DICOM",
        (): "There is no volume to read",
    }.items():
        with pytest.raises(DatasetError, match=problem):
            read_volume(path)


def test_labels_are_whole_numbers_on_the_voxels_of_their_scan(tmp_path):
    like = read_volume(save(scan(TURNS["RAS, of NIfTI"]), tmp_path / "scan.nii"))
    turned = sitk.DICOMOrient(
        sitk.Cast(scan(TURNS["RAS, of NIfTI"]) > 1000, sitk.sitkFloat64), "SAL"
    )
    labels = read_labels(save(turned, tmp_path / "mask.nii"), like)
    assert labels.array.dtype.kind == "i"
    assert np.array_equal(labels.array, like.array > 1000)

    with pytest.raises(DatasetError, match=r"half.nii: holds fractions"):
        read_labels(save(turned * 0.5, tmp_path / "half.nii"), like)
    with pytest.raises(DatasetError, match=r"huge.nii: holds .* numbers of more than 32 bits"):
        read_labels(save(turned * 3e9, tmp_path / "huge.nii"), like)
    for name, other in {"spacing": scan(spacing=(1, 1, 1)), "shape": scan(size=(6, 5, 3))}.items():
        with pytest.raises(DatasetError, match=rf"{name}.nii: lies on other voxels .* its scan"):
            read_labels(save(other, tmp_path / f"{name}.nii"), like)
