"""Numbers of a run with bootstrap intervals over the images, and differences of two runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.coco.ap import CocoResult
from ..evaluation.instances.results import MeasureTable, interval, mean_over_seeds


def number(value: float, digits: int = 2, sign: bool = False) -> str:
    """Return a number as text; a dash where nothing defines it."""
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}") if np.isfinite(value) else "–"


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval, in the unit of what it estimates; NaN: undefined."""

    value: float
    low: float = np.nan
    high: float = np.nan

    def interval(self, digits: int = 2) -> str:
        """Return the interval as "low to high"; "" if there is none."""
        is_defined = np.isfinite([self.low, self.high]).all()
        return f"{number(self.low, digits)} to {number(self.high, digits)}" if is_defined else ""

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Estimates:
    """Quantities of a run, and their values in samples of its images.

    Samples are given by weights (B, N), how often each sample holds each image, of ``resample``.
    Those of a single image all are that image and say nothing: there are no intervals then.

    Attributes:
        values: ``{name: value}``.
        drawn: ``{name: (B,)}``, in the samples; (0,) where no interval is wanted.
    """

    values: dict[str, float]
    drawn: dict[str, np.ndarray]

    @classmethod
    def of_table(cls, table: MeasureTable, weights: np.ndarray) -> "Estimates":
        """Take the measures of a table."""
        return cls(table.summary(), table.resampled(_of_several_images(weights)))

    @classmethod
    def of_coco(cls, result: CocoResult, weights: np.ndarray, prefix: str) -> "Estimates":
        """Take COCO's metrics of all images, with a prefix to their names."""
        drawn = result.bootstrap(_of_several_images(weights))
        return cls(
            {prefix + name: value for name, value in result.metrics.items()},
            {prefix + name: values for name, values in drawn.items()},
        )

    @classmethod
    def of_seeds(cls, seeds: Sequence["Estimates"]) -> "Estimates":
        """Take the means over a method's seeds, see :func:`mean_over_seeds`, of what all have."""
        names = [name for name in seeds[0].values if all(name in each for each in seeds)]
        return cls(
            {name: float(np.mean([each.values[name] for each in seeds])) for name in names},
            {
                name: mean_over_seeds(np.array([each.drawn[name] for each in seeds]))
                for name in names
            },
        )

    def __or__(self, other: "Estimates") -> "Estimates":
        return Estimates(self.values | other.values, self.drawn | other.drawn)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def __getitem__(self, name: str) -> Estimate:
        return Estimate(self.values[name], *interval(self.drawn[name]))

    def difference(self, base: "Estimates", name: str) -> Estimate:
        """Return this run's value minus that of ``base``, both on the same samples of images."""
        drawn = self.drawn[name] - base.drawn[name]
        return Estimate(self.values[name] - base.values[name], *interval(drawn))


def _of_several_images(weights: np.ndarray) -> np.ndarray:
    return weights if weights.shape[1] > 1 else weights[:0]
