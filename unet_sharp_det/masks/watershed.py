"""Objects of a volume out of its foreground."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def split_objects(foreground: np.ndarray, spacing: Sequence[float], distance: float) -> np.ndarray:
    """Number the objects of a mask, parting those that touch, by a watershed of distances.

    Objects grow (scikit-image's ``watershed``) around the voxels that are farthest from the
    background; of two that are nearer to each other than ``distance``, around the farther one.

    Args:
        foreground: bool (D, H, W).
        spacing: of the voxels, (z, y, x) in mm.
        distance: least mm between the middles of two objects that touch: about a diameter.

    Returns:
        int32 (D, H, W): 0 is background, the objects are 1, 2, ...

    Example::

        >>> import numpy as np
        >>> foreground = np.zeros((9, 9, 17), bool)
        >>> foreground[:, :, :8] = foreground[2:7, 2:7, 8] = foreground[:, :, 9:] = True
        >>> int(split_objects(foreground, (1, 1, 1), 8).max())
        2
    """
    from skimage.segmentation import watershed

    depth = ndimage.distance_transform_edt(foreground, sampling=spacing)
    components, _ = ndimage.label(foreground)
    markers = np.zeros(foreground.shape, np.int32)
    middles = _deepest(depth, components, spacing, distance)
    markers[tuple(middles.T)] = np.arange(1, len(middles) + 1)
    return watershed(-depth, markers, mask=foreground)


def _deepest(
    depth: np.ndarray, components: np.ndarray, spacing: Sequence[float], distance: float
) -> np.ndarray:
    """Return the voxels (N, 3) of greatest depth, at least ``distance`` from those of more depth
    in the same component."""
    is_peak = (depth == ndimage.maximum_filter(depth, 3)) & (components > 0)
    voxels = np.argwhere(is_peak)
    voxels = voxels[np.argsort(-depth[is_peak], kind="stable")]
    places, owners = voxels * np.array(spacing), components[tuple(voxels.T)]
    is_free, kept = np.ones(len(voxels), bool), []
    for index in range(len(voxels)):
        if is_free[index]:
            kept.append(index)
            near = np.linalg.norm(places - places[index], axis=1) < distance
            is_free &= ~(near & (owners == owners[index]))
    return voxels[kept]
