"""Intervals, and results by look and by size, against hand-made numbers and the measures."""

from types import SimpleNamespace

import numpy as np
import pytest
from label_map_files import label_map

from unet_sharp_det.evaluation.instances.overlap import InstanceOverlap
from unet_sharp_det.evaluation.instances.results import interval, resample
from unet_sharp_det.masks.instance_maps import InstanceMap
from unet_sharp_det.report.breakdown import break_down, by_contact, by_look, by_size
from unet_sharp_det.report.collect import Method
from unet_sharp_det.report.comparison import Comparison
from unet_sharp_det.report.estimates import Estimate, Estimates

SAMPLES = 20


@pytest.fixture(scope="module")
def comparison(methods):
    return Comparison(methods, SAMPLES, ap_samples=5)


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
        expected = [run.coco["segm"].subset(np.repeat(np.arange(8), w))["AP"] for w in weights]
        found = comparison.rows["segm/AP"].estimates[0]
        assert (found.low, found.high) == pytest.approx(interval(np.array(expected)))
        ids = [overlap.image_id for overlap in run.results.overlaps]
        assert run.coco["segm"].image_ids == ids

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


class TestSeeds:
    def test_means_over_seeds(self, reports):
        both = Comparison([Method("a", reports)], SAMPLES, ap_samples=5).rows["PQ_pooled"]
        each = [run.results.values["PQ_pooled"] for run in reports]
        assert both.estimates[0].value == pytest.approx(np.mean(each))

    def test_seeds_are_drawn_too(self):
        zero, two = (Estimates({"x": v}, {"x": np.full(200, float(v))}) for v in (0, 2))
        found = Estimates.of_seeds([zero, two])["x"]
        assert (found.value, found.low, found.high) == (1, 0, 2)
        assert Estimates.of_seeds([two])["x"] == two["x"]


class TestLooks:
    def test_looks_are_evaluated_by_themselves(self, methods, reports):
        looks = ["b", "a", None, "a", "a", None, "a", "a"]
        breakdown = break_down(methods, by_look(looks), resample(8, SAMPLES))
        groups = breakdown.groups
        names = ["a images", "b images", "unknown images"]
        assert [group.name for group in groups] == names
        assert [group.extent for group in groups] == ["5 images", "1 image", "2 images"]
        assert [group.images for group in groups] == [5, 1, 2]
        total = reports[0].results.object_counts[0]
        assert sum(g.objects for g in groups) == total == breakdown.whole.objects
        table, rows = reports[1].results.tables["instances"], [1, 3, 4, 6, 7]
        found = groups[0].estimates[1]
        assert found["PQ_pooled"].value == table.select(rows).summary()["PQ_pooled"]
        single = groups[1].estimates[1]
        value = reports[1].results.image_values("DSB_score")[0]
        assert single["DSB_score"].value == pytest.approx(value)
        assert single["recall"].interval() == single["DSB_score"].interval() == ""
        assert found["segm/AP"].value == reports[1].coco["segm"].subset(rows)["AP"]


def method_of(*pairs):
    """Of images that are given by the (x0, x1) of true and of predicted objects, 1 high."""

    def instance_map(spans):
        boxes = [(x0, 0, x1, 1) for x0, x1 in spans]
        return InstanceMap.from_labels(label_map(boxes, size=(1, 100)), "x")

    overlaps = [
        InstanceOverlap.count(instance_map(true), instance_map(predicted), image_id=i)
        for i, (true, predicted) in enumerate(pairs)
    ]
    return Method("m", [SimpleNamespace(results=SimpleNamespace(overlaps=overlaps))])


class TestGroups:
    def test_sizes_by_hand(self):
        # Areas 10 (IoU .6), 10 (missed), 20 (IoU .8), 40 (IoU .25 with an object of 10).
        method = method_of(
            ([(0, 10), (20, 30)], [(0, 6)]), ([(0, 20), (30, 70)], [(0, 16), (30, 40), (80, 85)])
        )
        grouping = by_size(method.seeds[0].results.overlaps)
        assert grouping.groups["smallest objects"] == "1 to 10 px"
        assert grouping.groups["largest objects"] == "more than 25 px"
        breakdown = break_down([method], grouping, resample(2, SAMPLES))
        assert [group.objects for group in breakdown.groups] == [2, 0, 1, 1]
        names = ("recall", "recall_50", "matched_IoU", "missed", "precision_50")
        values = [[g.estimates[0][name].value for name in names] for g in breakdown.groups]
        nan = np.nan
        expected = [
            [15, 50, 60, 50, 100 / 3],
            [nan, nan, nan, nan, nan],
            [70, 100, 80, 0, 100],
            [0, 0, nan, 0, nan],
        ]
        np.testing.assert_allclose(values, expected)
        whole = breakdown.whole.estimates[0]
        assert [whole[n].value for n in names] == pytest.approx([25, 50, 70, 25, 50])

    def test_true_objects_in_one_image_give_no_interval_whatever_is_found(self):
        true = [(0, 10), (20, 30)]
        right, false = method_of((true, true), ([], [])), method_of((true, []), ([], [(0, 10)]))
        methods = [Method("seeds", [*right.seeds, *false.seeds]), right, false]
        grouping = by_size(right.seeds[0].results.overlaps)
        breakdown = break_down(methods, grouping, resample(2, SAMPLES))
        for each in (breakdown.groups[0], breakdown.whole):
            found = [estimates["recall"] for estimates in each.estimates]
            assert [each.value for each in found] == [50, 100, 0]
            assert [each.interval() for each in found] == ["", "", ""]

    def test_objects_of_one_size_are_one_group(self):
        grouping = by_size(method_of(([(0, 4), (10, 14)], [(0, 5)])).seeds[0].results.overlaps)
        assert list(grouping.groups.values()) == ["1 to 4 px", "more than 4 px"]

    def test_groups_add_up_to_all_objects(self, methods, reports):
        overlaps, weights = reports[0].results.overlaps, resample(8, SAMPLES)
        total = reports[0].results.object_counts[0]
        metrics = reports[0].results.metrics["instances"]
        for grouping in (by_size(overlaps), by_contact(reports[0])):
            groups = break_down(methods, grouping, weights).groups
            assert sum(group.objects for group in groups) == total
            found = sum(g.objects * g.estimates[0]["recall_50"].value for g in groups) / total
            assert found == pytest.approx(metrics["recall_50_pooled"])
