"""The images of the lowest score, drawn with what each run got right and wrong in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.instances.measures import counts, merges, splits
from .collect import RunReport, find_picture
from .overlays import Outcomes, data_uri, outcome_picture

SCORE = "DSB_score"


@dataclass(frozen=True)
class RunPicture:
    """A run's objects in an image.

    ``score`` is in percent, ``counts`` are of TP, FP and FN at IoU >= .5, merges and splits, and
    ``uri`` is the picture, of ``size`` (height, width).
    """

    label: str
    score: float
    counts: dict[str, int]
    uri: str
    size: tuple[int, int]


@dataclass(frozen=True)
class WorstImage:
    """An image, its look (None: unknown), its true objects, and a picture per run.

    ``has_image`` says whether the image's file was there.
    """

    file_name: str
    look: str | None
    objects: int
    has_image: bool
    pictures: list[RunPicture]


def order_by_score(run: RunReport) -> np.ndarray:
    """Return the row numbers of the images by increasing score; equal ones in their order."""
    return np.argsort(run.image_values(SCORE), kind="stable")


def worst_images(
    runs: Sequence[RunReport], looks: Sequence[str | None], count: int
) -> list[WorstImage]:
    """Draw the ``count`` images on which the first run has the lowest score, for all runs."""
    images = []
    for row in order_by_score(runs[0])[:count]:
        name, image = runs[0].images[row].file_name, find_picture(runs, row)
        objects = len(runs[0].results.overlaps[row].true_areas)
        pictures = [_draw(run, row, image) for run in runs]
        images.append(WorstImage(name, looks[row], objects, image is not None, pictures))
    return images


def _draw(run: RunReport, row: int, image: np.ndarray | None) -> RunPicture:
    overlap = run.results.overlaps[row]
    picture = outcome_picture(
        image,
        run.truth.instance_map(overlap.image_id),
        run.predictions.instance_map(overlap.image_id),
        Outcomes.of(overlap),
        void=run.truth.void(overlap.image_id),
    )
    numbers = dict(zip(("TP", "FP", "FN"), counts(overlap, 0.5), strict=True))
    numbers |= {"merges": merges(overlap)[0], "splits": splits(overlap)[0]}
    score = float(run.image_values(SCORE)[row])
    return RunPicture(run.label, score, numbers, data_uri(picture), picture.shape[:2])
