"""Arrays that know where their voxels lie."""

import re
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from ..errors import first_line

# Every array's axes run to the patient's left, back and head, as near as its own direction allows.
ORIENTATION = "LPS"


@dataclass(frozen=True)
class Geometry:
    """Where voxels lie in the patient, in SimpleITK's terms and order x, y, z.

    Attributes:
        size: in voxels.
        spacing: of the voxels' centres, mm.
        origin: the centre of the first voxel, mm.
        direction: 3 x 3 cosines, row by row; its columns are the directions of x, y and z.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> "Geometry":
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @property
    def orientation(self) -> str:
        """Where x, y and z run to, of left/right, posterior/anterior, superior/inferior: "LPS"."""
        return sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(self.direction)

    def matches(self, other: "Geometry") -> bool:
        """Whether the voxels are the same: no corner is off by a tenth of a voxel."""
        if self.size != other.size:
            return False
        off = np.linalg.norm(self._corners() - other._corners(), axis=1).max()
        return bool(off < 0.1 * min(self.spacing))

    def with_spacing(self, spacing: tuple[float, float, float]) -> "Geometry":
        """Return voxels that fill the same box, as near to a spacing (x, y, z) in mm as they can.

        So values on them come back to these voxels by the sizes of the arrays alone.
        """
        old = np.array(self.spacing)
        size = np.maximum(1, np.rint(self.size * old / spacing)).astype(int)
        new = self.size * old / size
        origin = self.origin + self._axes() @ ((new - old) / 2)
        return replace(self, size=(*size.tolist(),), spacing=(*new,), origin=(*origin,))

    def _axes(self) -> np.ndarray:
        return np.reshape(self.direction, (3, 3))

    def _corners(self) -> np.ndarray:
        last = (np.array(self.size) - 1) * self.spacing
        corners = np.array(list(np.ndindex(2, 2, 2))) * last
        return self.origin + corners @ self._axes().T

    def __str__(self) -> str:
        parts = {"size": self.size, "spacing": self.spacing, "origin": self.origin}
        shown = (f"{name} {np.round(value, 3).tolist()}" for name, value in parts.items())
        return f"{', '.join(shown)}, orientation {self.orientation}"


@dataclass(frozen=True)
class Volume:
    """A scan, or a mask of one.

    Attributes:
        array: (C, D, H, W): channels, then z, y, x, in the orientation LPS.
        geometry: of the array.
        native: of the file; its orientation is that of files that are written.
    """

    array: np.ndarray
    geometry: Geometry
    native: Geometry


def resample(
    volume: Volume, spacing: tuple[float, float, float], is_labels: bool = False
) -> Volume:
    """Return the volume with another spacing.

    Args:
        spacing: in mm, in the order of ``Geometry.spacing``: x, y, z.
        is_labels: takes the nearest voxel; otherwise values are interpolated linearly.
    """
    return resample_to(volume, volume.geometry.with_spacing(spacing), is_labels)


def resample_to(volume: Volume, geometry: Geometry, is_labels: bool = False) -> Volume:
    """Return it on the voxels of ``geometry``; beyond its edge its nearest voxel goes on."""
    sample = sitk.ResampleImageFilter()
    sample.SetSize(geometry.size)
    sample.SetOutputSpacing(geometry.spacing)
    sample.SetOutputOrigin(geometry.origin)
    sample.SetOutputDirection(geometry.direction)
    sample.SetInterpolator(sitk.sitkNearestNeighbor if is_labels else sitk.sitkLinear)
    sample.UseNearestNeighborExtrapolatorOn()
    channels = [sample.Execute(to_image(each, volume.geometry)) for each in volume.array]
    array = np.stack([sitk.GetArrayFromImage(each) for each in channels])
    return replace(volume, array=array, geometry=geometry)


def to_image(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    """Return (D, H, W) as an image of SimpleITK."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


def reason_of(error: Exception) -> str:
    """Return what ITK says, without places in its source code and in memory."""
    said = re.sub(r"^Exception thrown.*\n|.*ERROR: |\w+ ?\(0x\w+\)(: )?", "", str(error))
    return first_line(said).rstrip(": ")
