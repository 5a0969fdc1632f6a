"""The images of the lowest score, drawn with what each run got right and wrong in them."""

from collections.abc import Sequence

import numpy as np

from ..evaluation.instances.measures import counts, merges, splits
from .collect import RunReport, find_picture
from .overlays import data_uri, outcome_picture

_SCORE = "DSB_score"


def order_by_score(run: RunReport) -> np.ndarray:
    """Return the row numbers of the images by increasing score; equal ones in their order."""
    return np.argsort(run.image_values(_SCORE), kind="stable")


def worst_images(runs: Sequence[RunReport], looks: Sequence[str | None], count: int) -> list[dict]:
    """Draw the ``count`` images on which the first run has the lowest score, for all runs.

    Returns:
        what the page shows of each image, and of each run in it.
    """
    images = []
    for row in order_by_score(runs[0])[:count]:
        picture = find_picture(runs, row)
        images.append(
            {
                "file_name": runs[0].images[row].file_name,
                "look": looks[row],
                "objects": len(runs[0].results.overlaps[row].true_areas),
                "has_image": picture is not None,
                "pictures": [_draw(run, row, picture) for run in runs],
            }
        )
    return images


def _draw(run: RunReport, row: int, image: np.ndarray | None) -> dict:
    overlap = run.results.overlaps[row]
    picture = outcome_picture(
        image,
        run.truth.instance_map(overlap.image_id),
        run.predictions.instance_map(overlap.image_id),
        overlap,
        void=run.truth.void(overlap.image_id),
    )
    numbers = dict(zip(("TP", "FP", "FN"), counts(overlap, 0.5), strict=True))
    numbers |= {"merges": merges(overlap)[0], "splits": splits(overlap)[0]}
    return {
        "label": run.label,
        "score": float(run.image_values(_SCORE)[row]),
        "counts": numbers,
        "uri": data_uri(picture),
        "size": picture.shape[:2],
    }
