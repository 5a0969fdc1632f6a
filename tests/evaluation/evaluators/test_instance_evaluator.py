import csv
import json
import logging
import math

import pytest
from detectron2.data import MetadataCatalog
from evaluation_helpers import coco_dataset, instances, process

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import DatasetError, UserError
from unet_sharp_det.evaluation import (
    EvaluationOptions,
    InstanceEvaluator,
    build_nuclei_evaluators,
)
from unet_sharp_det.evaluation.instances.results import COLUMNS
from unet_sharp_det.evaluation.record import INSTANCE_IMAGES_FILE as IMAGES_FILE
from unet_sharp_det.evaluation.record import INSTANCE_METRICS_FILE as METRICS_FILE
from unet_sharp_det.evaluation.record import EvaluationRecord


def test_overlapping_instances_count_once(register):
    name = register(coco_dataset({1: [(0, 0, 8, 8), (0, 0, 8, 4)]}))
    found = {1: instances([(0, 0, 8, 6), (0, 2, 8, 8)])}
    evaluator = InstanceEvaluator(name, options=EvaluationOptions(max_covered=1))
    assert set(process(evaluator, found)["foreground"].values()) == {100.0}
    # Two thirds of the second are covered.
    assert process(InstanceEvaluator(name), found)["foreground"]["IoU_pooled"] == 75


def test_csv_and_log(register, tmp_path, caplog):
    name = register(coco_dataset({2: [(0, 0, 8, 8), (8, 0, 16, 8)], 1: []}))
    evaluator = InstanceEvaluator(name, output_dir=str(tmp_path / "out"))
    with caplog.at_level(logging.INFO, logger="unet_sharp_det"):
        process(
            evaluator, {2: instances([(0, 0, 8, 8), (0, 0, 4, 4)], [0.9, 0.1]), 1: instances([])}
        )
    with open(tmp_path / "out" / IMAGES_FILE, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [list(COLUMNS)] * 2
    shown = ("image_id", "file_name", "n_gt", "n_pred", "IoU", "Dice", "DSB_score", "matched_IoU")
    assert [rows[0][key] for key in shown] == [
        *("1", "1.png", "0", "0", "100.0000", "100.0000", "100.0000", ""),
    ]
    assert [rows[1][key] for key in shown] == [
        *("2", "2.png", "2", "1", "50.0000", "66.6667", "50.0000", "100.0000"),
    ]
    assert "IoU_pooled 50.00: over all images together: |P & G| / |P | G|" in caplog.text
    assert "100 where both sets are empty, 0 where only one is" in caplog.text


def test_images_that_were_not_processed_are_missed(register, caplog):
    truth = {1: [(0, 0, 8, 8)], 2: [(0, 0, 8, 8)], 3: []}
    evaluator = InstanceEvaluator(register(coco_dataset(truth)))
    results = process(evaluator, {1: instances([(0, 0, 8, 8)])})
    assert results["instances"]["recall_50_pooled"] == 50
    assert results["foreground"]["IoU_image_mean"] == pytest.approx(200 / 3)
    assert "2 of the 3 images" in caplog.text
    evaluator.reset()
    assert evaluator.evaluate()["instances"]["DSB_score"] == pytest.approx(100 / 3)


def test_user_errors(register):
    name = register(coco_dataset({1: []}))
    evaluator = InstanceEvaluator(name)
    with pytest.raises(DatasetError, match="no image 9"):
        process(evaluator, {9: instances([])})
    with pytest.raises(DatasetError, match=r"\(32, 64\).*\(64, 64\)"):
        process(evaluator, {1: instances([], size=(32, 64))})
    without_masks = instances([])
    without_masks.remove("pred_masks")
    with pytest.raises(UserError, match="MASK_ON"):
        process(evaluator, {1: without_masks})
    del MetadataCatalog.get(name).__dict__["json_file"]
    with pytest.raises(DatasetError, match="has no json_file"):
        InstanceEvaluator(name)


def config(mask_on, test_sets, folder):
    options = ["MODEL.MASK_ON", mask_on, "DATASETS.TEST", test_sets, "OUTPUT_DIR", str(folder)]
    options += ["TEST.DETECTIONS_PER_IMAGE", 300, "TEST.AREA_SIDES", [4, 40]]
    return setup_cfg("", options)


def test_builder_follows_the_config(register, tmp_path):
    name = register(coco_dataset({1: [(0, 0, 8, 8)]}))
    found = {1: instances([(0, 0, 8, 8)])}
    results = process(build_nuclei_evaluators(config(True, (name,), tmp_path), name), found)
    assert list(results) == ["bbox", "segm", "instances", "foreground"]
    assert results["segm"]["APm"] == results["segm"]["AR@300"] == pytest.approx(100)
    assert (tmp_path / "inference" / "ap_table.md").exists()
    process(build_nuclei_evaluators(config(True, (name, "other"), tmp_path), name), found)
    assert (tmp_path / "inference" / name / IMAGES_FILE).exists()
    folder = str(tmp_path / "given")
    boxes = build_nuclei_evaluators(config(False, (name,), tmp_path), name, folder)
    assert list(process(boxes, found)) == ["bbox"]
    assert (tmp_path / "given" / "ap_table.md").exists()


def test_crowd_regions_count_for_nothing(register):
    dataset = coco_dataset({1: [(0, 0, 8, 8), (40, 0, 64, 64)]})
    dataset["annotations"][1]["iscrowd"] = 1
    evaluator = InstanceEvaluator(register(dataset))
    results = process(evaluator, {1: instances([(0, 0, 8, 8), (44, 0, 50, 9)])})
    assert results["instances"]["count_error"] == 0
    assert set(results["foreground"].values()) == {100.0}


def test_metrics_file_and_record(register, tmp_path):
    name = register(coco_dataset({1: [(0, 0, 8, 8)], 2: []}))
    options = EvaluationOptions(score_threshold=0.2, min_area=2, area_sides=(4, 40))
    evaluator = InstanceEvaluator(name, options=options, output_dir=str(tmp_path))
    process(evaluator, {1: instances([(0, 0, 8, 8), (20, 20, 21, 21)]), 2: instances([])})
    content = json.loads((tmp_path / METRICS_FILE).read_text())
    assert (content["images"], content["objects"], content["predicted_objects"]) == (2, 1, 1)
    assert content["score_threshold"] == 0.2
    assert content["results"]["instances"]["cell_AP65_pooled"] == 100
    assert set(content["results"]["instances"]) < set(content["definitions"])
    assert "IoU > t" in content["definitions"]["DSB_score"]
    record = EvaluationRecord.read(tmp_path)
    assert record.options == options
    assert record.truth == MetadataCatalog.get(name).json_file
    assert record.predictions == str(tmp_path / "coco_instances_results.json")


def test_undefined_values_are_null_in_the_file(register, tmp_path):
    evaluator = InstanceEvaluator(register(coco_dataset({1: []})), output_dir=str(tmp_path))
    assert math.isnan(process(evaluator, {1: instances([])})["instances"]["SQ_pooled"])
    content = json.loads((tmp_path / METRICS_FILE).read_text())
    assert content["results"]["instances"]["SQ_pooled"] is None
