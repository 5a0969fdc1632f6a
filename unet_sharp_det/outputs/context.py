"""What the writers of outputs know of an image beside its objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..images.source import ImageSource


@dataclass(frozen=True)
class OutputContext:
    """An image, and what its objects are.

    Attributes:
        source: the image, of which the overlay and the object table read windows.
        class_names: by class, from 0.
        pixel_size: (y, x) in micrometres. None: unknown.
    """

    source: ImageSource
    class_names: tuple[str, ...]
    pixel_size: tuple[float, float] | None = None


def windows(shape: tuple[int, int], height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Part an image (height, width) into (rows, columns) of at most this size, row by row."""
    for top in range(0, shape[0], height):
        for left in range(0, shape[1], width):
            yield (
                slice(top, min(top + height, shape[0])),
                slice(left, min(left + width, shape[1])),
            )
