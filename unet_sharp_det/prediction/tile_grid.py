"""Which windows of a large image a network sees, and which pixels each of them answers for."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..errors import ConfigError
from ..images.looks import is_background
from ..images.source import ImageSource

_LARGEST_ALIGNMENT = 256
# Larger levels of a pyramid are not looked at to tell tissue from background.
_LOW_POWER_PIXELS = 1 << 24


@dataclass(frozen=True)
class Tile:
    """A window of an image.

    Attributes:
        rows, columns: what the network sees.
        core_rows, core_columns: what it answers for; the cores of a grid part the image.
        inner_edges: (left, top, right, bottom): does the image go on beyond?
    """

    rows: slice
    columns: slice
    core_rows: slice
    core_columns: slice
    inner_edges: tuple[bool, bool, bool, bool]

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of what the network sees."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) of what the network sees."""
        return self.columns.start, self.rows.start, self.columns.stop, self.rows.stop

    @property
    def core_bounds(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) of what it answers for."""
        rows, columns = self.core_rows, self.core_columns
        return columns.start, rows.start, columns.stop, rows.stop

    @property
    def core_area(self) -> int:
        """In pixels."""
        x0, y0, x1, y1 = self.core_bounds
        return (x1 - x0) * (y1 - y0)


def tile_grid(shape: tuple[int, int], size: int, overlap: int, alignment: int = 1) -> list[Tile]:
    """Cover an image with overlapping tiles.

    Args:
        shape: (height, width) of the image in pixels; along a side up to ``size`` it is not cut.
        size: largest side of a tile in pixels.
        overlap: pixels that neighbours share at least; a core ends in their middle.
        alignment: tiles begin at multiples of this many pixels, so that a network's strides meet
            the same pixels as in the whole image.

    Returns:
        the tiles row by row.

    Raises:
        ConfigError: the tiles would not advance.
    """
    step = (size - overlap) // alignment * alignment
    if step < 1:
        raise ConfigError(
            f"Tiles of {size} pixels that overlap by {overlap} do not advance (in steps of "
            f"{alignment}). Give a tile_size of at least {overlap + alignment}."
        )
    spans = (_spans(length, size, step) for length in shape)
    tiles = []
    for (rows, core_rows), (columns, core_columns) in itertools.product(*spans):
        inner = columns.start > 0, rows.start > 0, columns.stop < shape[1], rows.stop < shape[0]
        tiles.append(Tile(rows, columns, core_rows, core_columns, inner))
    return tiles


def alignment_of(scale: float, divisibility: int) -> int:
    """Return the image pixels that ``scale`` enlarges to a multiple of ``divisibility`` pixels.

    Where that takes more than 256, tiles meet other pixels than the whole image does, and objects
    may differ a little: 1.
    """
    factor = Fraction(scale).limit_denominator(64)
    period = divisibility * factor.denominator
    needed = period // math.gcd(period, factor.numerator)
    is_exact = abs(float(factor) - scale) < 1e-9
    return needed if is_exact and needed <= _LARGEST_ALIGNMENT else 1


def _spans(length: int, size: int, step: int) -> list[tuple[slice, slice]]:
    """Return (window, core) of each tile along one side."""
    starts = [0]
    while starts[-1] + size < length:
        starts.append(starts[-1] + step)
    stops = [min(start + size, length) for start in starts]
    seams = [(stop + start) // 2 for stop, start in zip(stops, starts[1:], strict=False)]
    cores = itertools.pairwise([0, *seams, length])
    windows = (slice(*ends) for ends in zip(starts, stops, strict=True))
    return [(window, slice(*core)) for window, core in zip(windows, cores, strict=True)]


def part_background(grid: Sequence[Tile], source: ImageSource) -> tuple[list[Tile], list[Tile]]:
    """Return the tiles to look at, and those that have no tissue in a slide's coarsest level."""
    factor = max(source.levels, default=1)
    level = source.reduced(factor)
    is_picture = source.channels == source.total_channels == 3 and source.dtype == np.uint8
    if factor == 1 or not is_picture or math.prod(level.shape) > _LOW_POWER_PIXELS:
        return list(grid), []
    # The level has no pixel for what is left at the right and lower edge.
    empty = np.pad(is_background(level.window(*map(slice, level.shape))), (0, 1), mode="edge")

    seen, passed_over = [], []
    for tile in grid:
        parts = (tile.rows, tile.columns)
        place = tuple(slice(p.start // factor, -(-p.stop // factor)) for p in parts)
        (passed_over if empty[place].all() else seen).append(tile)
    return seen, passed_over


def batches_of_one_shape(
    tiles: Sequence[Tile], size_of: Callable[[tuple[int, int]], int]
) -> Iterator[list[Tile]]:
    """Yield the tiles of each shape (height, width), up to ``size_of`` it at once."""
    by_shape: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        by_shape.setdefault(tile.shape, []).append(tile)
    for shape, of_shape in by_shape.items():
        size = size_of(shape)
        for start in range(0, len(of_shape), size):
            yield of_shape[start : start + size]
