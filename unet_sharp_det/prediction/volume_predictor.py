"""From scans to volumes of labels, or of objects, on the same voxels, by a VolumeSegmentor."""

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoints.trained_model import open_trained_model
from ..errors import UserError
from ..files import atomic_path, ending_of, split_name
from ..masks.drawing import draw_planes
from ..masks.watershed import split_objects
from ..modeling.semantic_labels import SemanticLabels
from ..volumes import Volume, read_volume, write_volume
from ..volumes.writing import WRITTEN

#: What follows the name of a scan in those of its outputs; {} is the ending of a format.
ENDINGS = {"labels": "_labels{}", "planes": "_planes.png", "objects": "_objects{}"}


class VolumePredictor:
    """Labels the voxels of scans by class, or by object if the model has learnt distances.

    See :meth:`from_checkpoint`.

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

    def check_distance(self, object_distance: float | None) -> None:
        """Raise a UserError if labels that are objects already are to be parted."""
        if self.labels.finds_objects and object_distance is not None:
            raise UserError(
                "--object-distance: this model finds objects, which a_labels holds. Leave it out."
            )

    def write(self, paths, folder, object_distance: float | None = None) -> Path:
        """Label a scan, and write what :func:`write_labels` does; return the path of the labels.

        Args:
            paths: a file or DICOM folder, or a list of one per channel.
            folder: gets files that begin with the name of the (first) input.

        Raises:
            DatasetError, UserError: the scan cannot be read, or the labels not be written; or see
                :meth:`check_distance`.
        """
        self.check_distance(object_distance)
        first = Path(paths[0] if isinstance(paths, list) else paths)
        volume = read_volume(paths)
        outputs = label_paths(first, Path(folder, name_of(first)))
        if object_distance is None:
            del outputs["objects"]
        write_labels(volume, self(volume, str(first)), outputs, object_distance)
        return outputs["labels"]


def name_of(scan: Path) -> str:
    """Return the name of a scan without its ending; a folder's is whole."""
    return scan.name if scan.is_dir() else split_name(scan)[0]


def label_paths(scan: Path, stem: Path) -> dict[str, Path]:
    """Return where the files of :data:`ENDINGS` are written, beginning with ``stem``: volumes with
    the ending of the scan, or ``.nii.gz``."""
    ending = ending_of(scan)
    ending = ending if ending in WRITTEN and not scan.is_dir() else ".nii.gz"
    return {name: Path(f"{stem}{end.format(ending)}") for name, end in ENDINGS.items()}


def write_labels(
    volume: Volume,
    labels: np.ndarray,
    paths: Mapping[str, Path],
    object_distance: float | None = None,
) -> np.ndarray | None:
    """Write labels (D, H, W) in the orientation and geometry of a scan, and pictures of them.

    Args:
        paths: of "labels", "planes" (a picture), and maybe "objects".
        object_distance: of :func:`split_objects`, by which objects are parted.

    Returns:
        the objects, int32 (D, H, W), if they were written.
    """
    spacing, objects = volume.geometry.spacing[::-1], None
    if "objects" in paths:
        objects = split_objects(labels > 0, spacing, object_distance)
        write_volume(paths["objects"], objects, like=volume)
    with atomic_path(paths["planes"]) as temporary:
        picture = draw_planes(volume.array[0], labels, spacing)
        cv2.imwrite(str(temporary), picture[:, :, ::-1])
    write_volume(paths["labels"], labels, like=volume)
    return objects


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
