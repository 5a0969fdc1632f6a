"""Images drawn with what each method got right and wrong in them."""

from collections.abc import Sequence

import numpy as np

from ..evaluation.instances.measures import counts, merges, splits
from .collect import Method, RunReport, find_picture
from .overlays import data_uri, outcome_picture


def draw_images(
    methods: Sequence[Method], looks: Sequence[str | None], rows: Sequence[int]
) -> list[dict]:
    """Draw the images of some rows, and return what the page shows of each.

    Of several seeds of a method the first one is drawn.
    """
    runs, images = [method.seeds[0] for method in methods], []
    for row in rows:
        picture = find_picture(runs, row)
        count = len(runs[0].results.overlaps[row].true_areas)
        facts = f"{looks[row] or 'look unknown'}, {count} true objects"
        if picture is None:
            facts += "; the image's file is not there, so the ground is gray"
        images.append(
            {
                "file_name": runs[0].images[row].file_name,
                "facts": facts,
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
    numbers = dict(zip(("found", "false", "missed"), counts(overlap, 0.5), strict=True))
    numbers |= {"merged": merges(overlap)[0], "split": splits(overlap)[0]}
    return {
        "label": run.label,
        "score": float(run.image_values("DSB_score")[row]),
        "counts": ", ".join(f"{count} {what}" for what, count in numbers.items() if count),
        "uri": data_uri(picture),
        "size": picture.shape[:2],
    }
