"""Intervals, and results by look and by size, against hand-made numbers and the measures."""

from types import SimpleNamespace

import numpy as np
import pytest

from unet_sharp_det.evaluation.instances.overlap import InstanceOverlap
from unet_sharp_det.evaluation.instances.results import interval, resample
from unet_sharp_det.masks.instance_maps import InstanceMap
from unet_sharp_det.report.breakdown import by_look, by_size, quartiles_of_area
from unet_sharp_det.report.comparison import Comparison, estimates_of
from unet_sharp_det.report.estimates import Estimate, Estimates

SAMPLES = 20


@pytest.fixture(scope="module")
def comparison(reports):
    return Comparison(reports, SAMPLES, ap_samples=5)


class TestEstimates:
    def test_measures_are_those_of_the_tables(self, reports, comparison):
        for number, run in enumerate(reports):
            for name, value in run.results.metrics["instances"].items():
                assert comparison.estimates[number][name].value == pytest.approx(value, nan_ok=True)
            for task, result in run.coco.items():
                found = comparison.estimates[number][f"{task}/AP"]
                assert found.value == result.metrics["AP"]

    def test_differences_are_paired(self, reports, comparison):
        first, second = (run.results.tables["instances"] for run in reports)
        weights = resample(len(reports[0].images), SAMPLES)
        drawn, drawn_second = first.resampled(weights), second.resampled(weights)
        for name, value in first.summary().items():
            (found,) = comparison.rows[name].differences
            expected = second.summary()[name] - value, *interval(drawn_second[name] - drawn[name])
            assert (found.value, found.low, found.high) == pytest.approx(expected, nan_ok=True)

    def test_ap_is_of_the_first_samples(self, reports, comparison):
        weights = resample(len(reports[0].images), SAMPLES)[:5]
        run = reports[0]
        expected = [run.coco["segm"].subset(np.repeat(run.coco_rows, w))["AP"] for w in weights]
        found = comparison.rows["segm/AP"].estimates[0]
        assert (found.low, found.high) == pytest.approx(interval(np.array(expected)))
        ids = [list(run.truth.records)[place] for place in run.coco_rows]
        assert ids == [overlap.image_id for overlap in run.results.overlaps]

    def test_a_run_does_not_differ_from_itself(self, reports):
        found = estimates_of(reports[0], resample(8, 3), 1)
        difference = found.difference(found, "PQ_pooled")
        assert (difference.value, difference.low, difference.high) == (0, 0, 0)
        assert not difference.excludes_zero

    def test_ratios_are_pooled(self):
        weights = np.array([[2, 0], [0, 2], [1, 1]])
        found = Estimates.of_ratios({"r": ([1, 3], [2, 4]), "none": ([0, 0], [0, 0])}, weights, 100)
        assert found["r"].value == pytest.approx(100 * 4 / 6)
        np.testing.assert_allclose(found.drawn["r"], [50, 75, 400 / 6])
        assert np.isnan([found["none"].value, found["none"].low]).all()

    def test_one_image_has_no_interval(self):
        found = Estimates.of_ratios({"r": ([1], [2])}, np.ones((9, 1), int), 100)["r"]
        assert found.value == 50
        assert np.isnan([found.low, found.high]).all()

    @pytest.mark.parametrize(
        "name, low, high, verdict",
        [
            ("DSB_score", 1, 2, "better"),
            ("DSB_score", -2, -1, "worse"),
            ("DSB_score", -1, 1, ""),
            ("count_error", 1, 2, "worse"),
            ("count_bias", 1, 2, ""),
        ],
    )
    def test_verdict_goes_by_the_goal(self, comparison, name, low, high, verdict):
        row = comparison.rows[name]
        row = type(row)(row.measure, row.estimates, [Estimate((low + high) / 2, low, high)])
        assert row.verdict(0) == verdict

    def test_every_measure_is_in_one_group(self, comparison):
        grouped = [row for rows in comparison.groups.values() for row in rows]
        assert sorted(row.measure.name for row in grouped) == sorted(comparison.rows)
        assert "Other measures" not in comparison.groups


class TestLooks:
    def test_looks_are_evaluated_by_themselves(self, reports):
        looks = ["b", "a", None, "a", "a", None, "a", "a"]
        groups = by_look(reports, looks, SAMPLES)
        extents = [("a", "5 images"), ("b", "1 image"), ("unknown", "2 images")]
        assert [(group.name, group.extent) for group in groups] == extents
        assert sum(g.objects for g in groups) == reports[0].results.object_counts[0]
        table, rows = reports[1].results.tables["instances"], [1, 3, 4, 6, 7]
        found = groups[0].estimates[1]
        assert found["PQ_pooled"].value == table.select(rows).summary()["PQ_pooled"]
        single = reports[1].image_values("DSB_score")[0]
        assert groups[1].estimates[1]["DSB_score"].value == pytest.approx(single)
        ids = reports[1].coco_rows[rows]
        assert found["segm/AP"].value == reports[1].coco["segm"].subset(ids)["AP"]


def run_of(*pairs):
    """A run of images that are given by the (x0, x1) of true and of predicted objects, 1 high."""

    def instance_map(spans):
        labels = np.zeros((1, 100), np.int32)
        for number, (x0, x1) in enumerate(spans, start=1):
            labels[:, x0:x1] = number
        return InstanceMap(labels, np.ones(len(spans)))

    overlaps = [
        InstanceOverlap.count(instance_map(true), instance_map(predicted), image_id=i)
        for i, (true, predicted) in enumerate(pairs)
    ]
    return SimpleNamespace(results=SimpleNamespace(overlaps=overlaps), images=overlaps)


class TestSizes:
    def test_by_hand(self):
        # Areas 10 (IoU .6), 10 (missed), 20 (IoU .8), 40 (IoU .25 with an object of 10).
        run = run_of(
            ([(0, 10), (20, 30)], [(0, 6)]), ([(0, 20), (30, 70)], [(0, 16), (30, 40), (80, 85)])
        )
        small, large = by_size([run], [10], ["small", "large"], SAMPLES)
        assert (small.objects, small.predicted, small.extent) == (2, [3], "1 to 10 px")
        assert (large.objects, large.predicted, large.extent) == (2, [1], "more than 10 px")
        names = ("recall_50", "recall_75", "matched_IoU", "missed", "precision_50")
        values = [[b.estimates[0][name].value for name in names] for b in (small, large)]
        np.testing.assert_allclose(values, [[50, 0, 60, 50, 100 / 3], [50, 50, 80, 0, 100]])

    def test_bins_add_up_to_all_objects(self, reports):
        bounds = quartiles_of_area(reports[0])
        bins = by_size(reports, bounds, "abcd", SAMPLES)
        true, predicted = reports[0].results.object_counts
        assert sum(b.objects for b in bins) == true
        assert max(b.objects for b in bins) - min(b.objects for b in bins) <= 4
        assert sum(b.predicted[0] for b in bins) == predicted
        metrics = reports[0].results.metrics["instances"]
        found = sum(b.objects * b.estimates[0]["recall_50"].value for b in bins) / true
        assert found == pytest.approx(metrics["recall_50_pooled"])

    def test_without_objects(self):
        run = run_of(([], []), ([], []))
        assert quartiles_of_area(run) == []
        assert np.isnan(by_size([run], [10], "ab", 3)[0].estimates[0]["recall_50"].value)
