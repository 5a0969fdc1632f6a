"""The objects in the planes of a layer: a label map of the whole stack, and a table."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..outputs import OutputContext
from ..outputs.object_table import object_columns
from .layers import LayerImage


@dataclass(frozen=True)
class Found:
    """What was found in a layer, of every score that was looked for.

    Attributes:
        labels: int32, of :attr:`.LayerImage.shape`; numbers go on from plane to plane.
        features: columns of the table by name, each (N,): ``index``, the number; the plane, by the
            letter of each axis of a stack; then those of :func:`.object_columns`.
        score_threshold: the model's own.
        scales: of each plane the scale, and the median diameter in pixels that chose it, or 0.
    """

    labels: np.ndarray
    features: dict[str, np.ndarray]
    score_threshold: float
    scales: list[tuple[float, float]]

    def at_least(self, score: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return labels and features of the objects of this score or more; numbers stay."""
        kept = self.features["score"] >= score
        numbers = np.where(kept, self.features["index"], 0)
        shown = np.concatenate([[0], numbers]).astype(np.int32)[self.labels]
        return shown, {name: values[kept] for name, values in self.features.items()}


def find_objects(
    predictor,
    image: LayerImage,
    channel: int | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Found:
    """Find the objects in every plane of a layer, one plane after the other.

    Args:
        predictor: a :class:`~unet_sharp_det.prediction.predictor.Predictor`.
        image, channel: the layer, and the channel that the model sees; None: all.
        progress: called after every block of tiles with the share of all pixels that is done; what
            it raises ends the search.

    Raises:
        UserError: the layer cannot be used; see :meth:`.LayerImage.planes`.
    """
    planes = image.planes(None if predictor.image_format == "CHANNELS" else channel)
    total, done = sum(height * width for height, width in (each.shape for each in planes)), 0

    def count(pixels: int) -> None:
        nonlocal done
        done += pixels
        progress(done / total)

    labels, tables, scales, number = np.zeros(image.shape, np.int32), [], [], 0
    for plane in planes:
        found, *seen = predictor.find(plane, count)
        scales.append(seen)
        context = OutputContext(plane, predictor.class_names, plane.pixel_size)
        columns = object_columns(found, context)
        place = {axis: np.full(len(found), index) for axis, index in plane.place.items()}
        tables.append({"index": columns.pop("id") + number, **place, **columns})
        canvas = labels[image.index(plane)]
        for mask, (left, top, right, bottom) in zip(found.masks, found.boxes, strict=True):
            number += 1
            canvas[top:bottom, left:right][mask] = number
    features = {name: np.concatenate([each[name] for each in tables]) for name in tables[0]}
    return Found(labels, features, predictor.own_score_threshold, scales)
