"""Overlap and distance of surfaces of a model's segmentation of volumes and their labels."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from ... import volumes  # Its functions need SimpleITK, of the extra "volumes".
from ...errors import DatasetError
from ...files import atomic_path
from ...masks.drawing import draw_slice
from ...masks.instance_maps import InstanceMap
from ...modeling.semantic_labels import SemanticLabels
from ..instances.measures import FOREGROUND_MEASURES, FOREGROUND_RATIOS, Measure, Ratio
from ..instances.pixel_counts import PixelCounts
from ..readers.truth import LabelMapTruth
from ..record import SEMANTIC_IMAGES_FILE, SLICES_FOLDER
from .instances import InstanceEvaluator
from .semantic import ChannelResult, SemanticEvaluator


@dataclass(frozen=True)
class VolumeOverlap(PixelCounts):
    """The counts of a volume's channel, the distance of its surfaces, and the counts by slice.

    Attributes:
        hd95: in mm; NaN where one of the two sets is empty.
        surface_dice: 0 to 1.
        slices: of the slices that hold true voxels.
    """

    hd95: float
    surface_dice: float
    slices: tuple[PixelCounts, ...]

    @classmethod
    def compare(cls, predicted, truth, valid, spacing, tolerance: float) -> "VolumeOverlap":
        """Compare bool arrays (D, H, W), with ``spacing`` (z, y, x) and ``tolerance`` in mm."""
        from monai.metrics import compute_hausdorff_distance, compute_surface_dice

        predicted, truth = predicted & valid, truth & valid
        total = PixelCounts.count(predicted, truth, valid)
        held = [index for index in range(len(truth)) if truth[index].any()]
        slices = tuple(PixelCounts.count(predicted[i], truth[i], valid[i]) for i in held)
        pair = [torch.from_numpy(each)[None, None] for each in (predicted, truth)]
        options = {"include_background": True, "spacing": list(spacing)}
        if total.pred and total.true:
            hd95 = float(compute_hausdorff_distance(*pair, percentile=95, **options))
            surface_dice = float(compute_surface_dice(*pair, [tolerance], **options))
        else:
            hd95, surface_dice = math.nan, float(total.pred == total.true)
        return cls(**vars(total), hd95=hd95, surface_dice=surface_dice, slices=slices)


def _sum_over_slices(volume: VolumeOverlap, ratio: Ratio) -> tuple[float, int]:
    return sum(np.divide(*ratio(each)).item() for each in volume.slices), len(volume.slices)


_SLICES = "mean over the slices, of all volumes, that hold true voxels, of "
#: Of P and G, the predicted and the true voxels of a channel.
VOLUME_MEASURES = (
    *FOREGROUND_MEASURES,
    Measure(
        "HD95_image_mean",
        "mean over the volumes in which neither is empty of the larger of the two 95th percentiles "
        "of the distances from the surface of one of P and G to that of the other",
        "MONAI, compute_hausdorff_distance",
        lambda volume: (volume.hd95, 1),
        True,
        math.nan,
        "mm",
        "smallest",
    ),
    Measure(
        "surface_Dice_image_mean",
        "mean over the volumes of the share of both surfaces, in voxels, that lies within "
        "TEST.VOLUME.SURFACE_TOLERANCE of the other; 100 where both are empty, 0 where only one is",
        "Nikolov et al., arXiv 1809.04430; MONAI, compute_surface_dice",
        lambda volume: (volume.surface_dice, 1),
        True,
        1.0,
    ),
    *(
        Measure(
            f"{name}_slice_mean",
            _SLICES + text,
            "the papers' way with 2D networks",
            partial(_sum_over_slices, ratio=ratio),
            False,
            math.nan,
        )
        for name, text, ratio in FOREGROUND_RATIOS
    ),
)


def draw_case(record: dict, output: dict, labels: SemanticLabels) -> np.ndarray:
    """Draw a slice of a case by :func:`draw_slice`: objects, or each foreground channel as one.

    Args:
        record: with "volume_files", of which the first is drawn, and "label_file".
        output: of :class:`VolumeSegmentor`.
    """
    scan = volumes.read_volume(record["volume_files"][:1])
    truth = volumes.read_labels(record["label_file"]).array
    if "objects" in output:
        return draw_slice(scan.array[0], truth[0], output["objects"].numpy())
    true_channels, _ = labels.encode(torch.from_numpy(truth.astype(np.int64)))
    decided = labels.decide(output["sem_seg"][None])
    return draw_slice(scan.array[0], *(labels.number(each[0]) for each in (true_channels, decided)))


class VolumeEvaluator(SemanticEvaluator):
    """:class:`SemanticEvaluator` of volumes: :data:`VOLUME_MEASURES` of every foreground channel.

    Probabilities and labels are compared on the voxels of the label files; of a model of distances
    the foreground is, whose label files number objects. Predictions are large: of each volume
    :func:`draw_case` writes ``slices/<image_id>.png``.
    """

    measures = VOLUME_MEASURES
    ratios = ("IoU", "Dice", "HD95", "surface_Dice")
    predictions_file = SEMANTIC_IMAGES_FILE

    def __init__(self, *arguments, tolerance: float = 2.0, **options):
        """Take the arguments of :class:`SemanticEvaluator`, and a ``tolerance`` in mm."""
        super().__init__(*arguments, **options)
        self._tolerance = tolerance

    def process(self, inputs, outputs) -> None:
        """Compare volumes with their labels; see :meth:`SemanticEvaluator.process`."""
        for record, output in zip(inputs, outputs, strict=True):
            probabilities = self._probabilities(output)
            labels = volumes.read_labels(record["label_file"])
            array = torch.from_numpy(labels.array.astype(np.int64))
            if probabilities.shape[1:] != array.shape[1:]:
                raise DatasetError(
                    f"{record['label_file']}: has the size {list(array.shape[1:])}, but its volume "
                    f"{list(probabilities.shape[1:])}. Pair the files that belong together."
                )
            if self._labels.finds_objects:
                array.clamp_(max=1)
            self._labels.check(torch.unique(array), record["label_file"])
            truth, valid = (each[0].numpy() for each in self._labels.encode(array))
            predicted = self._labels.decide(probabilities[None])[0].cpu().numpy()
            if self._output_dir:
                path = Path(self._output_dir, SLICES_FOLDER, f"{record['image_id']}.png")
                with atomic_path(path) as temporary:
                    picture = draw_case(record, output, self._labels)
                    cv2.imwrite(str(temporary), picture[:, :, ::-1])
            for name, channel in self._channels.items():
                overlap = VolumeOverlap.compare(
                    predicted[channel],
                    truth[channel],
                    valid[0],
                    labels.geometry.spacing[::-1],
                    self._tolerance,
                )
                place = (record["image_id"], record["file_name"], name)
                self._results.append(ChannelResult(*place, overlap, None))


class VolumeInstanceEvaluator(InstanceEvaluator):
    """:class:`InstanceEvaluator` of the objects of volumes, which their label files number."""

    predictions_file = SEMANTIC_IMAGES_FILE

    @staticmethod
    def _open_truth(dataset_name: str) -> LabelMapTruth:
        records = DatasetCatalog.get(dataset_name)
        files = {each["image_id"]: Path(each["label_file"]) for each in records}
        return LabelMapTruth(MetadataCatalog.get(dataset_name).json_file, files)

    def _to_map(self, image_id, output: dict) -> InstanceMap:
        least = self._options.min_area
        where = f"volume {image_id}"
        return InstanceMap.from_labels(output["objects"].numpy(), where, min_area=least, dim=3)
