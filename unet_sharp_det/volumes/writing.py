"""Volumes into files."""

import numpy as np
import SimpleITK as sitk

from ..errors import UserError, look_up_option
from ..files import atomic_path, ending_of
from .volume import Volume, reason_of, to_image

#: Endings of what is written; ``.mhd`` is not among them, for its voxels are a second file.
WRITTEN = (".nii.gz", ".nii", ".mha", ".nrrd", ".tif")


def write_volume(path, array: np.ndarray, like: Volume) -> None:
    """Write voxels of a scan, so that any viewer shows them over it.

    Args:
        path: its ending, one of ``WRITTEN``, says the format. TIFF keeps no geometry.
        array: (D, H, W), of the voxels of ``like.array``.
        like: the scan. The file has its native orientation, and so its native geometry unless it
            was resampled.

    Raises:
        UserError: the ending is unknown, or the file cannot be written.
    """
    look_up_option(ending_of(path), WRITTEN, f"{path}: the ending")
    image = sitk.DICOMOrient(to_image(array, like.geometry), like.native.orientation)
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise UserError(
                f"{path}: cannot be written ({reason_of(error)}). Make room, or choose another "
                "format."
            ) from error
