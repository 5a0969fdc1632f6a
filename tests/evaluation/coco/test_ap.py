import copy
import logging
import math
from unittest import mock

import numpy as np
import pycocotools.mask as mask_util
import pytest
from coco_workload import coco_eval_workload
from evaluation_helpers import coco_dataset, detection
from faster_coco_eval import COCOeval_faster
from pycocotools.cocoeval import COCOeval

from unet_sharp_det.evaluation import EvaluationOptions
from unet_sharp_det.evaluation.coco.ap import coco_average_precision
from unet_sharp_det.evaluation.readers.truth import index_coco

both_tasks = pytest.mark.parametrize("task", ["bbox", "segm"])


@pytest.fixture(scope="module")
def workload():
    """Six images of two classes: tied scores, crowds, no truth on the first, nothing on the 2nd."""
    dataset, results = coco_eval_workload(images=6, detections=20, seed=3)
    dataset["categories"] = [{"id": 9, "name": "round"}, {"id": 4, "name": "long"}]
    for number, record in enumerate([*dataset["annotations"], *results]):
        record["category_id"] = 4 if number % 5 == 0 else 9
    for annotation in dataset["annotations"][::11]:
        annotation["iscrowd"] = 1
    for result in results:
        result["score"] = round(result["score"], 1)
    return dataset, results


def evaluate(workload, task="segm"):
    dataset, results = workload
    options = EvaluationOptions(max_dets=15, area_sides=(12, 22))
    truth = index_coco(copy.deepcopy(dataset))
    return coco_average_precision(truth, results, task, options)


def assert_equal_metrics(first, second):
    assert list(first) == list(second)
    np.testing.assert_allclose(
        np.array(list(first.values())), np.array(list(second.values())), rtol=0, atol=1e-10
    )


def restrict(workload, image_ids):
    """The data set that has these images as 1, 2 ..; one that is listed twice is there twice."""
    dataset, results = copy.deepcopy(workload)
    copies = {"images": [], "annotations": [], "categories": dataset["categories"]}
    found = []
    for new_id, image_id in enumerate(image_ids, start=1):
        copies["images"] += [{**i, "id": new_id} for i in dataset["images"] if i["id"] == image_id]
        for source, target in [(dataset["annotations"], copies["annotations"]), (results, found)]:
            target += [{**x, "image_id": new_id} for x in source if x["image_id"] == image_id]
    for number, annotation in enumerate(copies["annotations"], start=1):
        annotation["id"] = number
    return copies, found


def reference(workload, task, max_dets=(1, 15)):
    """What pycocotools itself makes of a workload, as its users call it."""
    dataset, results = copy.deepcopy(workload)
    truth = index_coco(dataset)
    coco_eval = COCOeval(truth, truth.loadRes(results), task)
    coco_eval.params.maxDets = list(max_dets)
    if task == "segm":
        # Where both are given, loadRes takes the area of the box.
        for annotation in coco_eval.cocoDt.anns.values():
            annotation["area"] = float(mask_util.area(annotation["segmentation"]))
    bounds = [0, 12**2, 22**2, 1e10]
    coco_eval.params.areaRng = [[0, 1e10], *map(list, zip(bounds[:-1], bounds[1:], strict=True))]
    coco_eval.params.areaRngLbl = ["all", "small", "medium", "large"]
    coco_eval.evaluate()
    coco_eval.accumulate()
    return coco_eval.eval["precision"][..., -1], coco_eval.eval["recall"]


@both_tasks
def test_metrics_are_those_of_pycocotools(workload, task):
    result = evaluate(workload, task)
    precision, recall = reference(workload, task)
    assert (precision > -1).all()
    assert result.implementation.startswith("faster-coco-eval ")
    expected = {
        "AP": precision[..., 0].mean(),
        "AP50": precision[0, ..., 0].mean(),
        "AP75": precision[5, ..., 0].mean(),
        "APs": precision[..., 1].mean(),
        "APm": precision[..., 2].mean(),
        "APl": precision[..., 3].mean(),
        "AR@1": recall[:, :, 0, 0].mean(),
        "AR@15": recall[:, :, 0, 1].mean(),
        "AP-long": precision[:, :, 0, 0].mean(),
        "AP-round": precision[:, :, 1, 0].mean(),
    }
    assert 5 < result.metrics["AP"] < 95
    assert result.metrics["AP-long"] != result.metrics["AP-round"]
    assert_equal_metrics(result.metrics, {key: 100 * value for key, value in expected.items()})
    assert list(result.definitions) == list(result.metrics)
    np.testing.assert_allclose(result.precision, precision[..., 0].mean(axis=2), atol=1e-12)
    assert result.precision.shape == (10, 101)


@both_tasks
def test_bootstrap_counts_an_image_as_often_as_it_is_drawn(workload, task):
    result = evaluate(workload, task)
    assert result.image_ids == [1, 2, 3, 4, 5, 6]
    samples = np.array([[0, 1, 2, 3, 4, 5], [2, 4, 4, 0, 4, 1], [5, 5, 5, 5, 5, 5]])
    metrics = result.bootstrap(np.array([np.bincount(each, minlength=6) for each in samples]))
    assert {values.shape for values in metrics.values()} == {(3,)}
    rows = [{key: values[i] for key, values in metrics.items()} for i in range(3)]
    assert_equal_metrics(rows[0], result.metrics)
    for row, sample in zip(rows, samples, strict=True):
        copies = restrict(workload, sorted(sample + 1))
        assert_equal_metrics(row, evaluate(copies, task).metrics)
        assert_equal_metrics(row, result.subset(sample))
    assert len({row["AP"] for row in rows}) == 3


def test_bootstrap_matches_nothing_again(workload):
    result = evaluate(workload)
    with mock.patch.object(COCOeval_faster, "evaluate", side_effect=AssertionError):
        result.bootstrap(np.array([[1, 0, 1, 0, 1, 0]]))


def test_without_ground_truth_all_is_nan(workload):
    result = evaluate(workload)
    assert all(map(math.isnan, result.subset([0]).values()))
    assert all(map(math.isnan, result.subset([]).values()))
    alone = evaluate(restrict(workload, [1]))
    assert all(map(math.isnan, alone.metrics.values()))
    assert np.isnan(alone.precision).all()
    weights = np.array([[2, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0]])
    assert np.isnan(result.bootstrap(weights)["AP"]).tolist() == [True, False]


@both_tasks
def test_without_results_all_is_zero(workload, task):
    result = evaluate((workload[0], []), task)
    assert set(result.metrics.values()) == {0.0}
    assert not result.precision.any()
    assert set(result.subset([1, 1, 3]).values()) == {0.0}


def test_a_class_without_ground_truth_does_not_count(workload):
    dataset, results = copy.deepcopy(workload)
    dataset["annotations"] = [x for x in dataset["annotations"] if x["category_id"] == 9]
    result = evaluate((dataset, results))
    assert math.isnan(result.metrics["AP-long"])
    assert result.metrics["AP"] == result.metrics["AP-round"] > 5
    assert result.precision.mean() == pytest.approx(result.metrics["AP"] / 100)


def test_equal_scores_rank_by_image_id_then_by_the_list():
    hit, miss = (0, 0, 8, 8), (40, 40, 48, 48)
    truth = index_coco(coco_dataset({2: [hit], 1: []}))

    def average_precision(*results):
        options = EvaluationOptions()
        return coco_average_precision(truth, list(results), "segm", options).metrics["AP"]

    on_2, off_2, off_1 = detection(hit, 0.5, 2), detection(miss, 0.5, 2), detection(miss, 0.5, 1)
    assert average_precision(on_2, off_2) == pytest.approx(100)
    assert average_precision(off_2, on_2) == pytest.approx(50)
    assert average_precision(on_2, off_1) == pytest.approx(50)


def test_ids_of_results_and_annotations_do_not_matter(workload):
    dataset, results = copy.deepcopy(workload)
    for number, annotation in enumerate(dataset["annotations"]):
        annotation["id"] = number // 2
    results = [{**result, "id": 7} for result in results]
    assert_equal_metrics(evaluate((dataset, results)).metrics, evaluate(workload).metrics)


def test_the_arguments_are_left_unchanged(workload):
    dataset, results = copy.deepcopy(workload)
    coco_average_precision(index_coco(dataset), results, "segm", EvaluationOptions())
    assert (dataset, results) == workload


def test_nothing_is_printed_or_logged(workload, capfd, caplog):
    with caplog.at_level(logging.DEBUG):
        evaluate(workload).subset([0, 1])
    assert (*capfd.readouterr(), caplog.text) == ("", "", "")
