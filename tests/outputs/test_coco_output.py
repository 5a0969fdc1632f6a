import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from pycocotools.coco import COCO

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.evaluation.readers.predictions import open_predictions
from unet_sharp_det.evaluation.readers.truth import open_truth
from unet_sharp_det.evaluation.record import EvaluationOptions
from unet_sharp_det.outputs import merge_coco


def test_pycocotools_reads_every_object(instances, write):
    data = COCO(write("coco", instances))
    assert data.imgs == {1: {"id": 1, "file_name": "a.tif", "height": 61, "width": 83}}
    assert {c["id"]: c["name"] for c in data.loadCats(data.getCatIds())} == {
        1: "nucleus",
        2: "mitosis",
    }
    assert list(data.anns) == list(range(1, 15))
    labels = instances.label_map()
    for number, annotation in data.anns.items():
        mask = data.annToMask(annotation)
        np.testing.assert_array_equal(mask, labels == number)
        assert annotation["area"] == mask.sum()
        assert annotation["bbox"] == mask_util.toBbox(annotation["segmentation"]).tolist()
        assert annotation["score"] == instances.scores[number - 1]
        assert annotation["category_id"] == instances.classes[number - 1] + 1
        assert annotation["iscrowd"] == 0


def test_it_is_a_file_of_predictions_to_this_package(instances, write):
    path = write("coco", instances)
    truth = open_truth(path)
    predictions = open_predictions(path, truth, EvaluationOptions(score_threshold=0.7))
    assert predictions.has_scores
    kept = instances.at_least(0.7)
    found = predictions.instance_map(1).labels
    np.testing.assert_array_equal(found > 0, kept.label_map() > 0)
    assert len(np.unique(found)) == len(kept) + 1


def test_merged_data_sets_have_new_ids(instances, write, tmp_path):
    first = json.loads(write("coco", instances.select(np.arange(3))).read_text())
    second = json.loads(write("coco", instances.select(np.arange(2, 4))).read_text())
    first["images"][0]["file_name"] = "b.tif"
    second["categories"].reverse()
    second["categories"][0]["id"], second["categories"][1]["id"] = 1, 2
    for annotation in second["annotations"]:
        annotation["category_id"] = 3 - annotation["category_id"]
    paths = [tmp_path / "1.json", tmp_path / "2.json"]
    for path, content in zip(paths, (first, second), strict=True):
        path.write_text(json.dumps(content))
    merged = merge_coco(paths)
    (tmp_path / "merged.json").write_text(json.dumps(merged))
    data = COCO(tmp_path / "merged.json")
    assert [image["file_name"] for image in data.imgs.values()] == ["b.tif", "a.tif"]
    assert list(data.anns) == [1, 2, 3, 4, 5]
    assert [len(data.getAnnIds(imgIds=[image_id])) for image_id in (1, 2)] == [3, 2]
    names = [data.cats[each["category_id"]]["name"] for each in data.anns.values()]
    assert names == ["nucleus"] * 4 + ["mitosis"]
    np.testing.assert_array_equal(data.annToMask(data.anns[3]), data.annToMask(data.anns[4]))


def test_merging_names_the_file_that_is_no_data_set(instances, write, tmp_path):
    path = write("coco", instances)
    content = json.loads(path.read_text())
    content["categories"] = [{"id": 7, "name": "cell"}]
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"other.json: .* the category_id 1, .* one of 7"):
        merge_coco([path, tmp_path / "other.json"])
    with pytest.raises(DatasetError, match="missing.json"):
        merge_coco([path, tmp_path / "missing.json"])
