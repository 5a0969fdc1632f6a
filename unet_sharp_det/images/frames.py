"""Pixels that a library reads frame by frame, as arrays that are read by slices."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import library_errors


@dataclass(frozen=True)
class FramePixels:
    """Frames along any axes, whose own axes are rows, columns and samples."""

    #: From a frame's place on the axes, and slices of rows and columns, to (h, w, samples).
    read: Callable[[tuple[int, ...], slice, slice], np.ndarray]
    where: str  # the file, for errors

    def __getitem__(self, slices: tuple[slice, ...]) -> np.ndarray:
        """Return the array of slices, one per axis, each with start and stop.

        Raises:
            DatasetError: the library cannot read a frame.
        """
        *outer, rows, columns, samples = slices
        places = itertools.product(*(range(part.start, part.stop) for part in outer))
        with library_errors(f"{self.where}: cannot be decoded"):
            frames = [self.read(place, rows, columns) for place in places]
        pixels = np.stack(frames)[..., samples]
        return pixels.reshape(*(part.stop - part.start for part in outer), *pixels.shape[1:])


@dataclass(frozen=True)
class ReversedSamples:
    """Pixels that are stored as blue, green, red; read as red, green, blue, their last axis."""

    pixels: object

    def __getitem__(self, slices: tuple[slice, ...]) -> np.ndarray:
        *outer, samples = slices
        return self.pixels[(*outer, slice(0, 3))][..., ::-1][..., samples]
