"""What a report is made of: the evaluations of runs, repeated from their files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DatasetError, UserError, counted
from ..evaluation.evaluation import Evaluation, evaluate_again, find_evaluation
from ..evaluation.record import EvaluationOptions, EvaluationRecord
from ..images.decoding import read_picture
from ..images.looks import guess_look
from .labels import label_folders
from .training import Training
from .volumes import VolumeRun


@dataclass(frozen=True)
class RunReport(Evaluation):
    """The evaluation of a run.

    Attributes:
        label: what the report calls it.
        folder: of the evaluation.
        training: without anything for predictions of another tool.
    """

    label: str
    folder: Path
    training: Training

    @classmethod
    def read(
        cls,
        run,
        label: str,
        dataset: str | None = None,
        ap_options: EvaluationOptions | None = None,
    ) -> "RunReport":
        """Find the evaluation of a run by :func:`find_evaluation` and repeat it.

        Raises:
            UserError: there is no evaluation, a file of it is missing or malformed, or does not
                give the numbers that the evaluation had.
        """
        folder = find_evaluation(run, dataset)
        found = Evaluation.repeat(folder, ap_options)
        training = Training.of_evaluation(folder, run, found.record.dataset)
        return cls(**vars(found), label=label, folder=folder, training=training)

    def picture(self, row: int) -> np.ndarray | None:
        """Read the image of a row, uint8 (H, W, 3) in RGB; None if its file is not there, or of a
        volume.

        Raises:
            DatasetError: it cannot be read, or is not of the size of the ground truth.
        """
        folder, image = self.record.images, self.images[row]
        path = folder and len(image.shape) == 2 and image.find_picture(folder)
        if not path:
            return None
        picture = read_picture(path)
        if picture.shape[:2] != tuple(image.shape):
            raise DatasetError(
                f"{path}: has (height, width) {picture.shape[:2]}, the ground truth "
                f"{tuple(image.shape)}. Evaluate with its own images. {evaluate_again(self.folder)}"
            )
        return picture


@dataclass(frozen=True)
class Method:
    """What is compared: the runs of a training with several seeds, or a single run.

    Attributes:
        label: what the report calls it.
        seeds: its runs.
    """

    label: str
    seeds: list[RunReport] | list[VolumeRun]

    @property
    def images(self) -> list:
        """Those of the runs."""
        return self.seeds[0].images

    def image_values(self, name: str) -> np.ndarray:
        """Return a measure's value of each image (N,), the mean over the seeds that have one."""
        values = np.array([run.results.image_values(name) for run in self.seeds])
        counts = np.isfinite(values).sum(axis=0)
        return np.divide(
            np.nansum(values, axis=0), counts, np.full(len(counts), np.nan), where=counts > 0
        )

    @property
    def object_counts(self) -> np.ndarray:
        """The number of predicted objects of each image (N,), the mean over the seeds."""
        overlaps = [run.results.overlaps for run in self.seeds]
        return np.mean([[len(each.pred_areas) for each in of_run] for of_run in overlaps], axis=0)


def collect_methods(
    runs: Sequence, labels: Sequence[str] | None = None, dataset: str | None = None
) -> list[Method]:
    """Repeat the evaluations of runs on the same images, or read those on volumes.

    Runs of the same label are seeds of one method. Without labels it is that of
    :func:`label_folders`. COCO's AP is of the first run's options for all, for limits of detections
    and bins of area that differ cannot be compared.

    Raises:
        UserError: a run cannot be read, the runs are not of the same images and objects, or there
            are not as many labels as runs, or a run is given twice with the same label.
    """
    if labels and len(labels) != len(runs):
        raise UserError(f"--labels: {len(labels)} labels for {len(runs)} runs, give one for each.")
    folders = [Path(run).resolve() for run in runs]
    names = list(labels or label_folders(folders))
    pairs = list(zip(names, folders, strict=True))
    if len(set(pairs)) < len(pairs):
        _, twice = next(pair for pair in pairs if pairs.count(pair) > 1)
        raise UserError(
            f"The run {twice} is given twice. Give each run once, or --labels to tell them apart."
        )
    methods, base = {name: Method(name, []) for name in names}, None
    for run, name in zip(runs, names, strict=True):
        seeds, count = methods[name].seeds, names.count(name)
        label = f"{name}, {len(seeds) + 1} of {count}" if count > 1 else name
        record = EvaluationRecord.read(find_evaluation(run, dataset))
        kind = VolumeRun if record.is_of_volumes else RunReport
        found = kind.read(run, label, dataset, base and base.record.options)
        base = base or found
        _check_same_images(base, found)
        seeds.append(found)
    return list(methods.values())


def _check_same_images(base: RunReport | VolumeRun, other: RunReport | VolumeRun) -> None:
    remedy = "Runs are compared image by image: evaluate both on the same data set."
    both = f"{base.label} ({base.record.truth}) and {other.label} ({other.record.truth})"
    if isinstance(base, VolumeRun) or isinstance(other, VolumeRun):
        of_volumes = [(run.images, getattr(run.results, "channels", None)) for run in (base, other)]
        if of_volumes[0] != of_volumes[1]:
            raise DatasetError(f"{both} are of other volumes or classes. {remedy}")
        return
    for one, two in ((base, other), (other, base)):
        missing = [one.truth.records[key] for key in one.truth.records.keys() - two.truth.records]
        if missing:
            count = counted(len(missing), "image")
            raise DatasetError(
                f"{both} are of other images: {two.label} lacks {count} of {one.label}, e.g. "
                f"{missing[0].file_name}. {remedy}"
            )
    for row, (first, second) in enumerate(zip(base.images, other.images, strict=True)):
        if (Path(first.file_name).name, first.shape) != (Path(second.file_name).name, second.shape):
            raise DatasetError(
                f"{both} are of other images: image {first.image_id} is {first.file_name} of "
                f"{first.shape} (height, width), and {second.file_name} of {second.shape}. {remedy}"
            )
        areas = [run.results.overlaps[row].true_areas for run in (base, other)]
        if not np.array_equal(*areas):
            raise DatasetError(f"{both} have other true objects in {first.file_name}. {remedy}")


def find_picture(runs: Sequence[RunReport], row: int) -> np.ndarray | None:
    """Return ``RunReport.picture`` of the first run that has one."""
    return next((p for run in runs if (p := run.picture(row)) is not None), None)


def looks_of(runs: Sequence[RunReport]) -> list[str | None]:
    """Return the look of each image, from the first ground truth, else guessed from the picture."""
    looks = []
    for row, image in enumerate(runs[0].images):
        look = image.look
        if look is None and (picture := find_picture(runs, row)) is not None:
            look = guess_look(picture)
        looks.append(look)
    return looks
