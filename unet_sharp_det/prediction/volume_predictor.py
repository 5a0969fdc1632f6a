"""From scans to label volumes on the same voxels, by a trained VolumeSegmentor."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoints.trained_model import open_trained_model
from ..errors import UserError
from ..files import atomic_path
from ..masks.drawing import draw_planes
from ..masks.watershed import split_objects
from ..modeling.semantic_labels import SemanticLabels
from ..volumes import Volume, read_volume, write_volume
from ..volumes.volume import ending_of
from ..volumes.writing import WRITTEN


class VolumePredictor:
    """Labels the voxels of scans; see :meth:`from_checkpoint`.

    Example::

        predict = VolumePredictor.from_checkpoint("output/model_best.pth")
        predict.write("volume-0.nii.gz", "results")     # results/volume-0_labels.nii.gz
    """

    def __init__(
        self, model: nn.Module, prepare: Callable[[Volume, str], Tensor], labels: SemanticLabels
    ):
        """
        Args:
            model: in eval mode, from [{"image": (C, d, h, w), "size": (D, H, W)}] to
                [{"sem_seg": probabilities (channels, D, H, W)}].
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

    def __call__(self, volume: Volume, where: str = "the volume") -> np.ndarray:
        """Return the label of each voxel, uint16 (D, H, W), on the voxels of ``volume``."""
        image = self.prepare(volume, where)
        with torch.inference_mode():
            (output,) = self.model([{"image": image, "size": volume.array.shape[1:]}])
        decided = self.labels.decide(output["sem_seg"][None])[0]
        return paint_channels(decided.cpu().numpy(), self.labels)

    def write(
        self, paths, folder, overwrite: bool = False, object_distance: float | None = None
    ) -> Path:
        """Label a scan; write the labels in its own orientation and geometry, and a picture.

        Args:
            paths: a file or DICOM folder, or a list of one per channel.
            folder: gets ``<name>_labels`` with the ending of the (first) input, or ``.nii.gz``, and
                ``<name>_planes.png``.
            object_distance: also writes ``<name>_objects``, see :func:`split_objects`. None: not.

        Raises:
            DatasetError, UserError: the scan cannot be read, or the labels not be written; they
                are there already, and ``overwrite`` is not set.
        """
        first = Path(paths[0] if isinstance(paths, list) else paths)
        ending = ending_of(first)
        name = first.name[: len(first.name) - len(ending)] if first.is_file() else first.name
        ending = ending if first.is_file() and ending in WRITTEN else ".nii.gz"
        path = Path(folder, f"{name}_labels{ending}")
        if path.exists() and not overwrite:
            raise UserError(f"{path}: is there already. Give --overwrite, or another --output.")
        volume = read_volume(paths)
        labels = self(volume, str(first))
        spacing = volume.geometry.spacing[::-1]
        if object_distance is not None:
            objects = split_objects(labels > 0, spacing, object_distance)
            write_volume(Path(folder, f"{name}_objects{ending}"), objects, like=volume)
        with atomic_path(Path(folder, f"{name}_planes.png")) as temporary:
            picture = draw_planes(volume.array[0], labels, spacing)
            cv2.imwrite(str(temporary), picture[:, :, ::-1])
        write_volume(path, labels, like=volume)
        return path


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
