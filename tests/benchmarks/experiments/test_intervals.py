"""Intervals over seeds and images against what is known of them."""

import numpy as np
import pytest
from report_helpers import make_run

from benchmarks.experiments.intervals import difference_interval, draw_metrics
from unet_sharp_det.report.collect import collect_methods
from unet_sharp_det.report.comparison import Comparison


def as_text(values) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def test_a_constant_difference_has_no_spread():
    base = [as_text(np.arange(200)), as_text(np.arange(200) ** 2)]
    other = [as_text(np.arange(200) + 1.5), as_text(np.arange(200) ** 2 + 1.5)]
    assert difference_interval(base, other) == pytest.approx((1.5, 1.5))


def test_seeds_that_disagree_widen_the_interval():
    zero, two = as_text(np.zeros(200)), as_text(np.full(200, 2.0))
    assert difference_interval([zero, zero], [zero, two]) == pytest.approx((0, 2))


def test_spread_is_that_of_the_mean_over_seeds():
    """Normal differences: sd over images .6, over 8 seeds .8 around +1."""
    rng = np.random.default_rng(3)
    of_seeds = rng.normal(size=8)
    of_seeds = 1 + 0.8 * (of_seeds - of_seeds.mean()) / of_seeds.std(ddof=1)
    of_images = rng.normal(scale=0.6, size=20_000)  # The same for all seeds.
    base = [as_text(np.zeros(20_000))] * 8
    other = [as_text(of_images + of_seed) for of_seed in of_seeds]
    deviation = np.sqrt(0.6**2 + 0.8**2 / 8 * 7 / 8)  # A bootstrap of n has (n - 1) / n.
    expected = 1 - 1.96 * deviation, 1 + 1.96 * deviation
    assert difference_interval(base, other) == pytest.approx(expected, abs=0.04)


def test_one_seed_has_the_interval_of_the_report(converted_sample, tmp_path):
    folders = [
        make_run(tmp_path / "first", converted_sample, seed=1, rate=0.08),
        make_run(tmp_path / "second", converted_sample, seed=2, rate=0.03),
    ]
    metrics = {"segm/AP": "segm/AP", "instances/DSB_score": "DSB_score"}
    one, other = (draw_metrics(folder, metrics) for folder in folders)
    rows = Comparison(collect_methods(folders), 200, 200).rows
    for metric, name in metrics.items():
        wanted = rows[name].differences[0]
        found = difference_interval([one[metric]], [other[metric]])
        assert found == pytest.approx((wanted.low, wanted.high), abs=0.01)
