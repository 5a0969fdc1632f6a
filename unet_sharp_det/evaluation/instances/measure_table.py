"""Measures of all images as arrays: their values, and those of resamples for intervals."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import ConfigError, look_up_option
from .matching import InstanceOverlap
from .measures import Measure

SAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class MeasureTable:
    """What measures are made of, an image per row.

    Attributes:
        measures: the columns.
        image_ids: of the N rows.
        parts: (numerators, denominators), each (N, K), of each measure.
    """

    measures: tuple[Measure, ...]
    image_ids: tuple
    parts: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    def from_overlaps(
        cls, overlaps: Sequence[InstanceOverlap], measures: Sequence[Measure]
    ) -> "MeasureTable":
        """Take the measures of images."""
        image_ids = tuple(overlap.image_id for overlap in overlaps)
        parts = tuple(_parts(measure, overlaps) for measure in measures)
        return cls(tuple(measures), image_ids, parts)

    def __len__(self) -> int:
        return len(self.image_ids)

    def select(self, rows: Sequence[int]) -> "MeasureTable":
        """Return the table of some images, by their row numbers."""
        rows = np.asarray(rows, dtype=int)
        parts = tuple((top[rows], bottom[rows]) for top, bottom in self.parts)
        return MeasureTable(self.measures, tuple(self.image_ids[row] for row in rows), parts)

    def image_values(self, name: str) -> np.ndarray:
        """Return a measure's value of each image (N,) in its unit; NaN where it has none."""
        look_up_option(name, [measure.name for measure in self.measures], "measure")
        index = next(i for i, measure in enumerate(self.measures) if measure.name == name)
        measure = self.measures[index]
        return measure.scale * _mean_ratio(*self.parts[index], measure.empty)

    def summary(self) -> dict[str, float]:
        """Return every measure of all images in its unit; NaN where nothing defines it."""
        everything = np.ones((1, len(self)))
        return {name: float(values[0]) for name, values in self.resampled(everything).items()}

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return every measure (B,) of B samples of the images.

        Args:
            weights: (B, N), how often each sample holds each image, from :func:`resample`.
        """
        if len(self) == 0:
            return {measure.name: np.full(len(weights), np.nan) for measure in self.measures}
        values = {}
        for measure, (top, bottom) in zip(self.measures, self.parts, strict=True):
            if measure.by_image:
                ratios = _mean_ratio(top, bottom, measure.empty)[:, None]
                defined = np.isfinite(ratios)
                top, bottom, empty = np.where(defined, ratios, 0.0), defined, np.nan
            else:
                empty = measure.empty
            values[measure.name] = measure.scale * _mean_ratio(
                weights @ top, weights @ bottom, empty
            )
        return values


def resample(image_count: int, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    """Draw bootstrap samples of images with replacement, each as large as the set.

    Equal arguments give equal samples, so that runs on the same images can be paired.

    Returns:
        integers (samples, image_count): how often a sample holds each image.

    Raises:
        ConfigError: there is no image, or no sample.
    """
    if image_count < 1 or samples < 1:
        raise ConfigError(f"Cannot draw {samples} samples of {image_count} images.")
    shares = np.full(image_count, 1 / image_count)
    return np.random.default_rng(seed).multinomial(image_count, shares, size=samples)


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval (Efron 1979) of bootstrap values, NaN ones left out."""
    defined = values[np.isfinite(values)]
    if defined.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _parts(measure: Measure, overlaps: Sequence[InstanceOverlap]) -> tuple[np.ndarray, np.ndarray]:
    ratios = [measure.ratio(overlap) for overlap in overlaps]
    top, bottom = zip(*ratios, strict=True) if ratios else ((), ())
    rows = len(overlaps)
    return (
        np.asarray(top, float).reshape(rows, -1 if rows else 1),
        np.asarray(bottom, float).reshape(rows, -1 if rows else 1),
    )


def _mean_ratio(top: np.ndarray, bottom: np.ndarray, empty: float) -> np.ndarray:
    """Return the mean over K of top / bottom, both (..., K), with ``empty`` for 0 / 0."""
    bottom = np.asarray(bottom, float)
    ratios = np.divide(top, bottom, out=np.full(bottom.shape, empty), where=bottom != 0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice")
        return np.nanmean(ratios, axis=-1)
