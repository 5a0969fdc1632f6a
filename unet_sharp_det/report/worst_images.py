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

    Attributes:
        label: of the run.
        score: of the image in percent.
        counts: ``{"TP" | "FP" | "FN": number at IoU >= .5, "merges" | "splits": number}``.
        uri: the picture as a data URI.
        size: (height, width) of the picture.
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
    return [_draw(runs, looks, row) for row in order_by_score(runs[0])[:count]]


def _draw(runs: Sequence[RunReport], looks: Sequence[str | None], row: int) -> WorstImage:
    first = runs[0]
    image = find_picture(runs, row)
    return WorstImage(
        first.images[row].file_name,
        looks[row],
        len(first.results.overlaps[row].true_areas),
        image is not None,
        [_draw_run(run, row, image) for run in runs],
    )


def _draw_run(run: RunReport, row: int, image: np.ndarray | None) -> RunPicture:
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
