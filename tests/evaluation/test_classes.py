"""Each class by itself, and which are taken for which, against counts by hand."""

import json

import numpy as np
import pytest
from evaluation_helpers import coco_dataset, detection

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.evaluation.classes import ClassResults, confuse
from unet_sharp_det.evaluation.evaluate_files import evaluate_files
from unet_sharp_det.evaluation.readers.predictions import open_predictions
from unet_sharp_det.evaluation.readers.truth import open_truth
from unet_sharp_det.evaluation.record import EvaluationOptions
from unet_sharp_det.masks.instance_maps import InstanceMap

OPTIONS = EvaluationOptions()


@pytest.fixture
def files(tmp_path):
    """A truth of 3 objects of "a" and 2 of "b"; found are two of "a", one of them called "b", one
    of "b", and a false "a"."""
    places = [(3, 0, 0), (3, 20, 0), (3, 40, 0), (5, 0, 20), (5, 20, 20)]
    found = [(3, 0, 0), (5, 20, 1), (5, 0, 20), (3, 40, 40)]
    truth = coco_dataset({1: [(x, y, x + 10, y + 10) for _, x, y in places]})
    truth["categories"] = [{"id": 3, "name": "a"}, {"id": 5, "name": "b"}]
    for annotation, (category, *_) in zip(truth["annotations"], places, strict=True):
        annotation["category_id"] = category
    results = [detection((x, y, x + 10, y + 10), category_id=c) for c, x, y in found]
    for name, content in (("truth", truth), ("results", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path / "truth.json", tmp_path / "results.json"


def test_counts_by_hand(files):
    truth = open_truth(files[0])
    found = ClassResults.of(truth, open_predictions(files[1], truth, OPTIONS), OPTIONS)
    assert found.names == ["a", "b"]
    # Rows: true a, b, none; columns: predicted a, b, none.
    assert found.confusion.tolist() == [[1, 1, 1], [0, 1, 1], [1, 0, 0]]
    # F1 is 2 TP / (true + predicted).
    assert found.results["a"].values["F1_50_pooled"] == pytest.approx(100 * 2 / (3 + 2))
    assert found.results["b"].values["F1_50_pooled"] == pytest.approx(100 * 2 / (2 + 2))
    assert found.mean("F1_50_pooled") == pytest.approx(45)
    assert found.results["a"].object_counts == (3, 2)


def test_images_without_a_class_say_nothing_of_it(files, recwarn):
    """A class that is never found has a score of 0, whatever the images that lack it."""
    content = json.loads(files[0].read_text())
    content["images"].append({**content["images"][0], "id": 2, "file_name": "y.png"})
    content["annotations"].append({**content["annotations"][0], "id": 9, "image_id": 2})
    files[0].write_text(json.dumps(content))
    results = [each for each in json.loads(files[1].read_text()) if each["category_id"] == 3]
    files[1].write_text(json.dumps(results))
    truth = open_truth(files[0])
    found = ClassResults.of(truth, open_predictions(files[1], truth, OPTIONS), OPTIONS)
    assert found.results["b"].values["DSB_score"] == 0
    assert len(found.results["a"].overlaps) == 2
    files[0].write_text(json.dumps({**content, "annotations": []}))
    truth = open_truth(files[0])
    found = ClassResults.of(truth, open_predictions(files[1], truth, OPTIONS), OPTIONS)
    assert np.isnan(found.mean("DSB_score"))
    assert found.results["a"].values["DSB_score"] == 0  # Objects are found that are not there.
    assert np.isnan(found.results["b"].values["DSB_score"])  # Nor are any found.
    assert not recwarn.list


def test_they_stand_in_the_files_and_in_the_table(files, tmp_path):
    table = evaluate_files(files[1], files[0], tmp_path / "out", samples=5, ap_samples=2)
    words = " ".join(table.split())
    assert "| true \\ predicted | a | b | none |" in words
    assert "| mean of classes | | | 29.17 | 45.00 |" in words
    content = json.loads((tmp_path / "out" / "instance_metrics.json").read_text())
    assert content["confusion"] == {"a": [1, 1, 1], "b": [0, 1, 1], "none": [1, 0, 0]}
    assert content["classes"]["b"]["objects"] == 2
    assert content["class_means"]["F1_50_pooled"] == pytest.approx(45)


def test_classes_of_one_name_are_told_apart(files, tmp_path):
    content = json.loads(files[0].read_text())
    names = {3: "a", 5: "a", 7: "none"}
    content["categories"] = [{"id": key, "name": name} for key, name in names.items()]
    files[0].write_text(json.dumps(content))
    table = evaluate_files(files[1], files[0], tmp_path / "out", samples=5, ap_samples=2)
    assert "| true \\ predicted | a (3) | a (5) | none (7) | none |" in " ".join(table.split())
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())["results"]["segm"]
    assert found["AP-a (5)"] == pytest.approx(100 * 51 / 101 / 2)  # half of it, after a false one
    assert found["AP-none (7)"] is None


def test_classes_of_a_data_set_are_paired_by_name(files):
    """Whose ids may be others, as those of predict; without a known name they go by the ids."""
    truth = open_truth(files[0])
    data_set = json.loads(files[0].read_text())
    for names, ids in ([("b", "a"), {3: 5, 5: 3}], [("x", "y"), {3: 3, 5: 5}]):
        categories = [{"id": key, "name": name} for key, name in zip((3, 5), names, strict=True)]
        annotations = [
            {**each, "category_id": ids[each["category_id"]], "score": 0.9}
            for each in data_set["annotations"]
        ]
        found = {**data_set, "categories": categories, "annotations": annotations}
        files[1].write_text(json.dumps(found))
        opened = open_predictions(files[1], truth, OPTIONS)
        assert ClassResults.of(truth, opened, OPTIONS).confusion.diagonal().tolist() == [3, 2, 0]
    found["categories"][0]["name"] = "a"
    files[1].write_text(json.dumps(found))
    with pytest.raises(DatasetError, match=r"has the category 'y'; the ground truth has \[3, 5\]"):
        open_predictions(files[1], truth, OPTIONS)


def test_one_class_has_no_table(files):
    content = json.loads(files[0].read_text())
    content["categories"] = content["categories"][:1]
    content["annotations"] = content["annotations"][:3]
    files[0].write_text(json.dumps(content))
    files[1].write_text(json.dumps(json.loads(files[1].read_text())[:1]))
    truth = open_truth(files[0])
    assert ClassResults.of(truth, open_predictions(files[1], truth, OPTIONS), OPTIONS) is None


@pytest.mark.parametrize("seed", range(5))
def test_rows_and_columns_sum_to_the_objects(seed):
    random = np.random.default_rng(seed)
    maps = [
        InstanceMap.from_labels(np.kron(random.integers(0, 4, (4, 4)), np.ones((5, 5), int)), "x")
        for _ in range(6)
    ]
    table = confuse(maps[:3], maps[3:])
    assert table[:3].sum(axis=1).tolist() == [len(each) for each in maps[:3]]
    assert table[:, :3].sum(axis=0).tolist() == [len(each) for each in maps[3:]]
    same = confuse(maps[:3], maps[:3])
    assert same.trace() == sum(len(each) for each in maps[:3])
