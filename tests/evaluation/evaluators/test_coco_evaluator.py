import json
import logging
import math

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from evaluation_helpers import coco_dataset, instances, process

from unet_sharp_det.errors import ConfigError, DatasetError, UserError
from unet_sharp_det.evaluation import EvaluationOptions, InstanceEvaluator, NucleiCOCOEvaluator
from unet_sharp_det.evaluation.record import AP_METRICS_FILE, AP_TABLE_FILE, COCO_RESULTS_FILE

KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR@1", "AR@100", "AR@500"]


def nuclei_grid(count, side=6, size=128):
    per_row = size // (side + 1)
    corners = [((side + 1) * (i % per_row), (side + 1) * (i // per_row)) for i in range(count)]
    return [(x, y, x + side, y + side) for x, y in corners]


def test_more_than_100_nuclei_need_more_than_100_detections(register):
    boxes = nuclei_grid(150)
    name = register(coco_dataset({1: boxes}, size=(128, 128)))
    found = {1: instances(boxes, size=(128, 128))}
    capped = process(NucleiCOCOEvaluator(name, options=EvaluationOptions(max_dets=100)), found)
    full = process(NucleiCOCOEvaluator(name), found)
    for task in ("bbox", "segm"):
        assert list(capped[task]) == [*KEYS[:-1]]
        # 100 of 150 objects: 67 of the 101 recall points 0, .01 .. 1 are reached.
        assert capped[task]["AP"] == pytest.approx(100 * 67 / 101)
        assert capped[task]["AR@100"] == pytest.approx(100 * 100 / 150)
        assert list(full[task]) == KEYS
        assert full[task]["AP"] == pytest.approx(100)
        assert full[task]["AR@1"] == pytest.approx(100 / 150)
        assert full[task]["AR@100"] == pytest.approx(100 * 100 / 150)
        assert full[task]["AR@500"] == pytest.approx(100)


@pytest.mark.parametrize(
    "sides, expected",
    [((4, 40), ["APm"]), ((32, 40), ["APs"]), ((2, 4), ["APl"]), ((8, 40), ["APs", "APm"])],
    ids=str,
)
def test_area_bins_follow_the_sides(register, caplog, sides, expected):
    """An object on a boundary is in both bins."""
    box = (0, 0, 8, 8)
    name = register(coco_dataset({1: [box]}))
    evaluator = NucleiCOCOEvaluator(name, options=EvaluationOptions(area_sides=sides))
    with caplog.at_level(logging.INFO, logger="unet_sharp_det"):
        results = process(evaluator, {1: instances([box])})
    for key in ("APs", "APm", "APl"):
        if key in expected:
            assert results["segm"][key] == pytest.approx(100)
        else:
            assert math.isnan(results["segm"][key])
        assert caplog.text.count(f"{key} is NaN: no ground truth object") == (key not in expected)


def test_nothing_detected_is_zero(register):
    name = register(coco_dataset({1: [(0, 0, 8, 8)], 2: []}))
    results = process(NucleiCOCOEvaluator(name), {1: instances([])})
    for task in ("bbox", "segm"):
        assert list(results[task]) == KEYS
        nan = {"APm", "APl"}
        assert {key for key, value in results[task].items() if math.isnan(value)} == nan
        assert {value for key, value in results[task].items() if key not in nan} == {0.0}


def test_no_ground_truth_at_all_is_nan(register, caplog):
    name = register(coco_dataset({1: []}))
    evaluator = NucleiCOCOEvaluator(name)
    with caplog.at_level(logging.INFO, logger="unet_sharp_det"):
        results = process(evaluator, {1: instances([(0, 0, 8, 8)])})
    assert all(math.isnan(value) for value in results["bbox"].values())
    assert "no ground truth object" in caplog.text


def test_text_ids_give_what_numbers_give(register):
    images = {"b": [(0, 0, 8, 8), (20, 20, 30, 30)], "10": [(5, 5, 25, 25)], "9": []}
    found = {"b": [(0, 0, 8, 8), (40, 40, 50, 50)], "10": [(5, 5, 25, 26)], "9": [(0, 0, 5, 5)]}
    numbers = {key: number for number, key in enumerate(sorted(images), start=1)}
    results = []
    for rename in (lambda key: key, numbers.get):
        name = register(coco_dataset({rename(key): boxes for key, boxes in images.items()}))
        predictions = {rename(key): instances(boxes) for key, boxes in found.items()}
        results.append(
            {
                **process(NucleiCOCOEvaluator(name), predictions),
                **process(InstanceEvaluator(name), predictions),
            }
        )
    assert 0 < results[0]["segm"]["AP"] < 100
    np.testing.assert_equal(*results)


def test_second_evaluation_of_the_same_predictions_is_equal(register):
    dataset = coco_dataset({1: [(0, 0, 8, 8), (20, 20, 30, 30)]})
    dataset["categories"] = [{"id": 2, "name": "a"}, {"id": 1, "name": "b"}]
    evaluator = NucleiCOCOEvaluator(register(dataset))
    found = instances([(0, 0, 8, 8), (40, 40, 50, 50)], [0.9, 0.8], classes=[1, 0])
    first = process(evaluator, {1: found})
    assert first["segm"]["AP-b"] == pytest.approx(100 * 51 / 101)
    assert math.isnan(first["segm"]["AP-a"])
    np.testing.assert_equal(evaluator.evaluate(), first)


def test_mask_area_decides_the_bin_of_a_mask(register):
    """The false positive is a thin diagonal: its box is medium, its mask small."""
    size = (128, 128)
    box = (0, 0, 40, 40)
    name = register(coco_dataset({1: [box]}, size=size))
    found = instances([box, (64, 64, 104, 104)], [0.5, 0.9], size=size)
    found.pred_masks[1] = torch.diag(found.pred_masks[1].diagonal())
    results = process(NucleiCOCOEvaluator(name), {1: found})
    assert results["bbox"]["APm"] == pytest.approx(50)
    assert results["segm"]["APm"] == pytest.approx(100)
    assert results["segm"]["AP"] == pytest.approx(50)


def test_files(register, tmp_path):
    box = (0, 0, 8, 8)
    name = register(coco_dataset({1: [box], 2: []}))
    folder = tmp_path / "out"
    evaluator = NucleiCOCOEvaluator(name, output_dir=str(folder))
    process(evaluator, {1: instances([box], [0.75]), 2: instances([])})
    assert {path.name for path in folder.iterdir()} == {
        COCO_RESULTS_FILE,
        AP_METRICS_FILE,
        AP_TABLE_FILE,
    }
    (result,) = json.loads((folder / COCO_RESULTS_FILE).read_text())
    assert (result["image_id"], result["category_id"], result["score"]) == (1, 1, 0.75)
    assert result["bbox"] == [0, 0, 8, 8]
    metrics = json.loads((folder / AP_METRICS_FILE).read_text())
    assert (metrics["images"], metrics["objects"], metrics["max_dets"]) == (2, 1, 500)
    assert metrics["results"]["segm"]["AP"] == pytest.approx(100)
    assert metrics["results"]["segm"]["APl"] is None
    table = (folder / AP_TABLE_FILE).read_text()
    for key in KEYS:
        assert f"\n| {key} " in table
        assert metrics["definitions"][key] in table


def test_missing_images_are_reported(register, caplog):
    box = (0, 0, 8, 8)
    name = register(coco_dataset({1: [box], 2: [box]}))
    evaluator = NucleiCOCOEvaluator(name)
    assert process(evaluator, {1: instances([box])})["segm"]["AR@500"] == pytest.approx(50)
    assert "Only 1 of the 2 images" in caplog.text


def test_data_set_without_annotations_is_only_predicted(register, tmp_path):
    dataset = coco_dataset({1: []})
    del dataset["annotations"]
    evaluator = NucleiCOCOEvaluator(register(dataset), output_dir=str(tmp_path / "out"))
    assert process(evaluator, {1: instances([(0, 0, 8, 8)])}) == {}
    assert len(json.loads((tmp_path / "out" / COCO_RESULTS_FILE).read_text())) == 1


def test_user_errors(register):
    box = (0, 0, 8, 8)
    dataset = coco_dataset({1: [box]})
    name = register(dataset)
    with pytest.raises(ConfigError, match="Did you mean 'segm'"):
        NucleiCOCOEvaluator(name, tasks=("segment",))
    evaluator = NucleiCOCOEvaluator(name)
    with pytest.raises(DatasetError, match=r"predicted the classes \[1\].*NUM_CLASSES"):
        process(evaluator, {1: instances([box], classes=[1])})
    with pytest.raises(DatasetError, match="image ids"):
        process(evaluator, {7: instances([box])})
    with pytest.raises(DatasetError, match="image 1 has the score nan"):
        process(evaluator, {1: instances([box], [math.nan])})
    without_masks = instances([box])
    without_masks.remove("pred_masks")
    with pytest.raises(UserError, match="MASK_ON"):
        process(evaluator, {1: without_masks})
    boxes_only = NucleiCOCOEvaluator(name, tasks=("bbox",))
    assert list(process(boxes_only, {1: without_masks})) == ["bbox"]
    del dataset["annotations"][0]["segmentation"]
    boxes = register(dataset)
    with pytest.raises(DatasetError, match="id 1 has no 'segmentation'"):
        NucleiCOCOEvaluator(boxes)
    assert process(NucleiCOCOEvaluator(boxes, tasks=("bbox",)), {1: without_masks})["bbox"]
    dataset["annotations"][0]["area"] = None
    with pytest.raises(DatasetError, match="the area None"):
        NucleiCOCOEvaluator(register(dataset))
    del MetadataCatalog.get(name).__dict__["thing_dataset_id_to_contiguous_id"]
    with pytest.raises(DatasetError, match="thing_dataset_id_to_contiguous_id"):
        process(NucleiCOCOEvaluator(name), {1: instances([box])})
