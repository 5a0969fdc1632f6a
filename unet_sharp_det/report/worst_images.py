"""The images of the lowest score, drawn with what each run got right and wrong in them."""

from collections.abc import Sequence

import numpy as np

from ..evaluation.instances.measures import counts, merges, splits
from .collect import RunReport, find_picture
from .overlays import data_uri, outcome_picture


def worst_images(
    runs: Sequence[RunReport], looks: Sequence[str | None], rows: Sequence[int]
) -> list[dict]:
    """Draw the images of some rows, and return what the page shows of each, and of its runs."""
    images = []
    for row in rows:
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
        "score": float(run.image_values("DSB_score")[row]),
        "counts": numbers,
        "uri": data_uri(picture),
        "size": picture.shape[:2],
    }
