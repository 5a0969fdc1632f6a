"""From scans to labels, or objects, of their voxels, by a VolumeSegmentor."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoints.trained_model import open_trained_model
from ..modeling.semantic_labels import SemanticLabels
from ..volumes import Volume


class VolumePredictor:
    """Labels the voxels of scans by class, or by object if the model has learnt distances.

    See :meth:`from_checkpoint`.

    Example::

        predict = VolumePredictor.from_checkpoint("output/model_best.pth")
        labels = predict(read_volume("volume-0.nii.gz"))    # (D, H, W)
    """

    def __init__(
        self, model: nn.Module, prepare: Callable[[Volume, str], Tensor], labels: SemanticLabels
    ):
        """
        Args:
            model: in eval mode, from [{"image": (C, d, h, w), "size": (D, H, W)}] to
                [{"sem_seg": probabilities (channels, D, H, W), maybe "objects": (D, H, W)}].
            prepare: normalises and resamples a scan for the model (``VolumeMapper.prepare``).
            labels: what the model's channels stand for.
        """
        self.model, self.prepare, self.labels = model, prepare, labels

    @classmethod
    def from_checkpoint(cls, path, **opening) -> "VolumePredictor":
        """Load a trained model, as :meth:`.Predictor.from_checkpoint` does."""
        from ..data.volume_mapper import VolumeMapper  # Of the package's extra "volumes".

        model, cfg = open_trained_model(path, **opening)
        mapper = VolumeMapper(cfg, is_train=False)
        return cls(model, mapper.prepare, mapper.labels)

    @property
    def device(self) -> torch.device:
        """That of the model."""
        return self.model.device

    def __call__(self, volume: Volume, where: str = "the volume") -> np.ndarray:
        """Return the label of each voxel (D, H, W), on the voxels of ``volume``: uint16 of classes,
        int32 of objects."""
        image = self.prepare(volume, where)
        with torch.inference_mode():
            (output,) = self.model([{"image": image, "size": volume.array.shape[1:]}])
        if self.labels.finds_objects:
            return output["objects"].numpy()
        decided = self.labels.decide(output["sem_seg"][None])[0]
        return paint_channels(decided.cpu().numpy(), self.labels)


def paint_channels(decided: np.ndarray, labels: SemanticLabels) -> np.ndarray:
    """Return the labels, uint16 (D, H, W), that bool channels (C, D, H, W) stand for.

    Regions are painted from the one with most labels to that with fewest (of equal ones the last
    is seen), so that the innermost is seen, each as its least label that no region within it has:
    of BraTS' [[1, 2, 4], [1, 4], [4]] the whole tumour as 2, the core as 1, the enhancing as 4.
    """
    found = np.zeros(decided.shape[1:], np.uint16)
    members = [set(each) for each in labels.members]
    for channel in sorted(range(len(members)), key=lambda channel: -len(members[channel])):
        own = members[channel]
        within = set().union(*(each for each in members if each < own))
        found[decided[channel]] = min(own - within or own)
    return found
