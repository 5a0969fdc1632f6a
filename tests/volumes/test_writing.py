"""What is written lies over the scan that was read."""

import numpy as np
import pytest
import SimpleITK as sitk
from volume_files import TURNS, scan

from unet_sharp_det.errors import UserError
from unet_sharp_det.volumes import read_volume, resample, resample_to, write_volume


def geometry(image):
    return [*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection()]


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("ending", [".nii.gz", ".NII.GZ", ".mha", ".nrrd"])
def test_a_volume_comes_back_as_it_was(turn, ending, tmp_path):
    original = scan(TURNS[turn])
    sitk.WriteImage(original, str(tmp_path / "scan.mha"))
    volume = read_volume(tmp_path / "scan.mha")
    write_volume(tmp_path / f"new{ending}", volume.array[0], like=volume)

    written = sitk.ReadImage(str(tmp_path / f"new{ending}"))
    assert written.GetSize() == original.GetSize()
    assert geometry(written) == pytest.approx(geometry(original), abs=1e-5)
    assert np.array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(original))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"new{ending}", "scan.mha"]
    assert np.array_equal(read_volume(tmp_path / f"new{ending}").array, volume.array)


def test_an_unknown_ending_is_refused(tmp_path):
    sitk.WriteImage(scan(), str(tmp_path / "scan.nii"))
    volume = read_volume(tmp_path / "scan.nii")
    with pytest.raises(UserError, match=r"'.mhd' is not known. Did you mean '.mha'"):
        write_volume(tmp_path / "new.mhd", volume.array[0], like=volume)


def test_resampling_keeps_values_where_they_are_in_the_patient(tmp_path):
    """Values are heights in mm, so that linear interpolation gives the height of any voxel."""
    image = scan(TURNS["oblique and flipped"], size=(12, 10, 8), spacing=(1, 1, 2))
    sitk.WriteImage(image, str(tmp_path / "scan.mha"))
    volume = read_volume(tmp_path / "scan.mha")
    finer = resample(volume, (0.5, 0.5, 1))
    assert finer.array.shape == (1, 16, 20, 24)
    assert finer.geometry.spacing == (0.5, 0.5, 1)

    sitk_like = sitk.Image(finer.geometry.size, sitk.sitkUInt8)
    sitk_like.SetSpacing(finer.geometry.spacing)
    sitk_like.SetOrigin(finer.geometry.origin)
    sitk_like.SetDirection(finer.geometry.direction)
    for d, h, w in [(1, 1, 1), (8, 10, 12), (14, 18, 22)]:
        height = sitk_like.TransformIndexToPhysicalPoint((w, h, d))[2]
        assert finer.array[0, d, h, w] == pytest.approx(10 * height, abs=1.1)

    back = resample_to(finer, volume.geometry)
    assert back.geometry.matches(volume.geometry)
    assert np.abs(back.array[0] - volume.array[0])[1:-1, 1:-1, 1:-1].max() <= 1


def test_labels_stay_labels_and_borders_are_kept_when_resampled(tmp_path):
    image = scan() > 0
    image = sitk.Cast(image, sitk.sitkUInt8) * 7
    image[0, 0, 0] = 3
    sitk.WriteImage(image, str(tmp_path / "scan.mha"))
    volume = read_volume(tmp_path / "scan.mha")
    coarse = resample(volume, (1.9, 1.9, 1.9), is_labels=True)
    assert set(np.unique(coarse.array)) <= {3, 7}
    assert set(np.unique(resample_to(coarse, volume.geometry, is_labels=True).array)) <= {3, 7}
