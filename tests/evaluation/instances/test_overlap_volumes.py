"""Objects of volumes are compared as those of images are."""

import numpy as np
import pytest

from unet_sharp_det.evaluation.instances.overlap import InstanceOverlap
from unet_sharp_det.masks.instance_maps import InstanceMap


def test_shifted_cubes_share_what_they_share():
    true, pred = np.zeros((2, 12, 12, 12), int)
    true[2:6, 2:6, 2:6], true[8:10, 8:10, 8:10] = 3, 9
    pred[3:7, 2:6, 2:6] = 1
    maps = [InstanceMap.from_labels(each, "a", dim=3) for each in (true, pred)]
    overlap = InstanceOverlap.count(*maps, image_id=1)
    assert overlap.true_areas.tolist() == [64, 8]
    assert overlap.iou == pytest.approx([48 / 80])
    # Every predicted boundary voxel is near a true one, not so those of the 8 voxels alone.
    recall = 56 / 64
    assert overlap.boundary_f1 == pytest.approx(2 * recall / (1 + recall))
