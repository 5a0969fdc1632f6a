"""Values of all images and bootstrap intervals."""

import numpy as np
import pytest
from test_overlap import labels_of, overlap_of

from unet_sharp_det.errors import DatasetError, UserError
from unet_sharp_det.evaluation.instances.measures import INSTANCE_MEASURES
from unet_sharp_det.evaluation.instances.results import (
    InstanceResults,
    MeasureTable,
    interval,
    resample,
)


def random_overlaps(seed, count=6, found_share=0.7):
    """Images of up to nine boxes in a row, of which a share is found, shifted."""
    generator = np.random.default_rng(seed)
    overlaps = []
    for image_id in range(count):
        number = int(generator.integers(0, 10))
        boxes = [(4 * i, 0, 4 * i + 3, 5) for i in range(number)]
        kept = [box for box in boxes if generator.random() < found_share]
        shifts = generator.integers(0, 3, len(kept))
        found = [(x0, y0 + s, x1, y1 + s) for (x0, y0, x1, y1), s in zip(kept, shifts, strict=True)]
        overlaps.append(overlap_of(labels_of(boxes), labels_of(found), image_id=image_id))
    return overlaps


@pytest.mark.parametrize("task", ["instances", "foreground"])
def test_a_sample_is_the_data_set_of_its_images(task):
    table = InstanceResults(random_overlaps(0)).tables[task]
    weights = resample(len(table), samples=5, seed=3)
    drawn = table.resampled(weights)
    for row, counts in enumerate(weights):
        rows = np.repeat(np.arange(len(table)), counts)
        expected = table.select(rows).summary()
        for name, values in drawn.items():
            np.testing.assert_allclose(values[row], expected[name], rtol=1e-12, err_msg=name)


def test_values_of_images_have_the_mean_of_the_data_set():
    results = InstanceResults(random_overlaps(2))
    summary = {**results.metrics["instances"], **results.metrics["foreground"]}
    assert list(summary) == [measure.name for measure in results.measures]
    for measure in results.measures:
        if measure.by_image:
            values = results.image_values(measure.name)
            np.testing.assert_allclose(np.nanmean(values), summary[measure.name], rtol=1e-12)
    with pytest.raises(UserError, match="Did you mean 'DSB_score'"):
        results.tables["instances"].image_values("DSB_scores")


def test_samples_hold_as_many_images_and_repeat_by_seed():
    weights = resample(7, samples=50, seed=1)
    assert weights.shape == (50, 7)
    assert set(weights.sum(axis=1)) == {7}
    np.testing.assert_array_equal(weights, resample(7, samples=50, seed=1))
    assert (weights != resample(7, samples=50, seed=2)).any()


def test_interval_covers_the_mean_as_often_as_it_says():
    """Of 300 sets of 60 images with a DSB score known by construction, about 95 % cover it."""
    good = overlap_of(labels_of([(0, 0, 4, 4)]), labels_of([(0, 0, 4, 4)]))
    poor = overlap_of(labels_of([(0, 0, 4, 4)]), labels_of([]), image_id=2)
    table = MeasureTable.of([good, poor], INSTANCE_MEASURES[:1])
    generator, covered = np.random.default_rng(0), 0
    for repeat in range(300):
        drawn = table.select(generator.random(60) < 0.3)
        low, high = interval(drawn.resampled(resample(60, 300, repeat))["DSB_score"])
        covered += low <= 70 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_interval_of_values():
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))
    assert interval(np.array([np.nan, 3.0])) == (3, 3)
    assert np.isnan(interval(np.array([np.nan]))).all()


def test_an_image_counts_once():
    with pytest.raises(DatasetError, match="image 0 .* is there twice"):
        InstanceResults(random_overlaps(0, 1) * 2)
