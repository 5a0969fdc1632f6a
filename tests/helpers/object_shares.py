"""Objects of masks, and how many of them two predictions have in common."""

import numpy as np

from unet_sharp_det.masks.instances import SparseInstances


def sparse(masks, scores):
    """Objects of the masks (N, H, W) of an image, of class 0."""
    corners = [(0, 0)] * len(masks)
    return SparseInstances.from_windows(
        masks.shape[1:], corners, masks, scores, np.zeros(len(masks))
    )


def share_of_same_objects(wanted, found, iou=0.9):
    """The share of wanted objects that a found one matches at this IoU."""
    labels, matched = found.label_map(), 0
    for mask in wanted.full_masks():
        overlap = np.bincount(labels[mask], minlength=len(found) + 1)
        overlap[0] = 0
        best = overlap.argmax()
        union = mask.sum() + np.count_nonzero(labels == best) - overlap[best]
        matched += overlap[best] > 0 and overlap[best] >= iou * union
    return matched / len(wanted)


def assert_same_objects(found, labels):
    """Assert that what was found are the objects of a label map, each once."""
    masks = {mask.tobytes() for mask in found.full_masks()}
    numbers = np.unique(labels[labels > 0])
    assert masks == {(labels == number).tobytes() for number in numbers}
    assert len(found) == len(numbers)
