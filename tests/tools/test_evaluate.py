"""The command evaluate: what it prints and writes, and that it overwrites only evaluations."""

import csv
import importlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances

from unet_sharp_det.errors import ConfigError, DatasetError
from unet_sharp_det.evaluation import EvaluationOptions, InstanceEvaluator, NucleiCOCOEvaluator
from unet_sharp_det.evaluation.readers.truth import CocoTruth
from unet_sharp_det.evaluation.record import EvaluationRecord

FAST = ["--samples", "40", "--ap-samples", "4"]
AP_FILES = {"metrics.json", "ap_table.md"}
FILES = {"instances_per_image.csv", "instance_metrics.json", "evaluation.json"}


@pytest.fixture(scope="module")
def tool():
    return importlib.import_module("unet_sharp_det.cli.evaluate")


@pytest.fixture(scope="module")
def truth(converted_sample):
    return converted_sample / "annotations" / "dsb2018_val.json"


@pytest.fixture(scope="module")
def evaluated(truth, tmp_path_factory):
    """The evaluators' own folder of faulty predictions of the sample."""
    folder = tmp_path_factory.mktemp("inference")
    name = "test_evaluate_tool"
    MetadataCatalog.get(name).set(
        json_file=str(truth), thing_dataset_id_to_contiguous_id={1: 0}, thing_classes=["nucleus"]
    )
    kinds = (InstanceEvaluator, NucleiCOCOEvaluator)
    evaluators = [kind(name, output_dir=str(folder)) for kind in kinds]
    for evaluator in evaluators:
        evaluator.reset()
    rng = np.random.default_rng(0)
    coco = CocoTruth(truth)
    for image_id, record in coco.records.items():
        labels = coco.instance_map(image_id).labels
        numbers = [k for k in range(1, labels.max() + 1) if rng.random() < 0.8]
        masks = np.stack([np.roll(labels == k, rng.integers(-2, 3, 2), (0, 1)) for k in numbers])
        found = Instances(record.shape)
        found.pred_masks = torch.from_numpy(masks)
        found.scores = torch.from_numpy(rng.random(len(numbers)).round(3))
        found.pred_classes = torch.zeros(len(numbers), dtype=torch.int64)
        found.pred_boxes = Boxes(torch.tensor([mask_box(mask) for mask in masks]))
        for evaluator in evaluators:
            image = {"image_id": image_id, "file_name": record.file_name}
            evaluator.process([image], [{"instances": found}])
    for evaluator in evaluators:
        evaluator.evaluate()
    MetadataCatalog.pop(name)
    return folder


def mask_box(mask):
    y, x = mask.nonzero()
    return [float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1)]


def read(folder, name):
    return json.loads((folder / name).read_text())


def table_rows(out):
    lines = (line.strip("|") for line in out.splitlines() if line.startswith("|"))
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    return {name: others for name, *others in cells[2:]}


def test_repeats_what_the_evaluators_found(tool, truth, evaluated, tmp_path, capsys):
    predictions = evaluated / "coco_instances_results.json"
    tool.main(
        ["--predictions", str(predictions), "--truth", str(truth), "--output", str(tmp_path)]
        + ["--images", str(truth.parents[1]), *FAST]
    )
    assert {path.name for path in tmp_path.iterdir()} == FILES | AP_FILES
    for name in ("instance_metrics.json", "metrics.json"):
        for task, metrics in read(evaluated, name)["results"].items():
            assert read(tmp_path, name)["results"][task] == pytest.approx(metrics), task
    name = "instances_per_image.csv"
    assert (tmp_path / name).read_text() == (evaluated / name).read_text()
    rows = table_rows(capsys.readouterr().out)
    found = read(tmp_path, "instance_metrics.json")
    for task, name in (("instances", "PQ_image_mean"), ("foreground", "IoU_image_mean")):
        low, high = found["intervals"][task][name]
        assert low < found["results"][task][name] < high
        assert rows[name][0] == f"{found['results'][task][name]:.2f}"
        assert rows[name][1:] == [f"{low:.2f} to {high:.2f}", "percent"]
    low, high = read(tmp_path, "metrics.json")["intervals"]["segm"]["AP50"]
    assert 0 < low < high < 100
    assert "AP50 of masks (COCO)" in rows
    record = EvaluationRecord.read(tmp_path)
    assert (record.truth, record.predictions) == (str(truth), str(predictions))
    assert (record.dataset, record.images) == ("dsb2018_val", str(truth.parents[1]))


def test_label_maps(tool, truth, tmp_path, capsys, caplog, monkeypatch):
    """AP of former predictions goes; paths may be relative."""
    monkeypatch.chdir(tmp_path)
    coco = CocoTruth(truth)
    for image_id, record in coco.records.items():
        labels = coco.instance_map(image_id).labels.astype(np.uint16)
        name = record.file_name.removeprefix("images/").removesuffix(".png")
        (tmp_path / "maps").mkdir(exist_ok=True)
        cv2.imwrite(f"maps/{name}-x.png", labels)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text('{"results": {}}')
    (tmp_path / "out" / "ap_table.md").touch()
    caplog.set_level("INFO")
    tool.main(
        ["--predictions", "maps", "--truth", str(truth), "--output", "out", "--suffix=-x"]
        + ["--dataset", "mine", "--min-area", "9", "--boundary-tolerance", "1", *FAST]
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    rows = table_rows(capsys.readouterr().out)
    assert rows["IoU_image_mean"][0] == "100.00"
    assert not any("COCO" in name for name in rows)
    assert "has no scores, by which AP and AR of COCO rank" in caplog.text
    record = EvaluationRecord.read(tmp_path / "out")
    assert record.options == EvaluationOptions(min_area=9, boundary_tolerance=1)
    assert (record.dataset, record.predictions) == ("mine", str(tmp_path / "maps"))
    with open("out/instances_per_image.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(coco.records)


def test_masks_are_no_label_maps(tool, truth, tmp_path, caplog):
    """Maps with a 1 where any nucleus is, in a folder of predict; and one without the pictures."""
    coco = CocoTruth(truth)
    (tmp_path / "masks").mkdir()
    for image_id, record in coco.records.items():
        mask = (coco.instance_map(image_id).labels > 0).astype(np.uint8)
        stem = Path(record.file_name).stem
        cv2.imwrite(str(tmp_path / "masks" / f"{stem}_labels.png"), mask)
        cv2.imwrite(str(tmp_path / "masks" / f"{stem}_overlay.png"), mask)
    (tmp_path / "masks" / "predict_records.jsonl").touch()
    arguments = ["--predictions", str(tmp_path / "masks"), "--truth", str(truth)]
    tool.main([*arguments, "--output", str(tmp_path), "--images", str(tmp_path), *FAST])
    assert "No image has more than one predicted object" in caplog.text
    assert "as in pictures" not in caplog.text
    itself = ["--truth", str(tmp_path / "masks"), "--output", str(tmp_path / "itself")]
    tool.main([*arguments[:2], *itself, *FAST])
    assert len((tmp_path / "itself" / "instances_per_image.csv").read_text().splitlines()) == 9
    for path in (tmp_path / "masks").glob("*_labels.png"):
        intensities = np.random.default_rng(0).normal(900, 99, cv2.imread(str(path), 0).shape)
        cv2.imwrite(str(path), intensities.astype(np.uint16))
    tool.main([*arguments, "--output", str(tmp_path), *FAST])
    assert "masks: neighbouring pixels mostly have other numbers, as in pictures" in caplog.text
    assert "lacks 8 of 8 images" in caplog.text


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"--predictions": "none.json"}, DatasetError, "There is no file none.json"),
        ({"--output": "truth.json"}, DatasetError, "is a file, give a folder"),
        ({"--output": "run"}, DatasetError, "not written by an evaluation"),
        ({"--images": "nowhere"}, DatasetError, "there is no folder nowhere"),
        ({"--min-area": "-1"}, ConfigError, "min_area must be"),
        ({"--samples": "0"}, ConfigError, "--samples must be 1 or more, not 0"),
        ({"--ap-samples": "-1"}, ConfigError, "--ap-samples must be 1 or more, not -1"),
        ({"--output": "truth.json/new"}, DatasetError, "truth.json is a file, give a folder"),
        ({"--output": "five"}, DatasetError, "five/metrics.json was not written by an evaluation"),
        ({"--output": "folders"}, DatasetError, "metrics.json was not written by an evaluation"),
    ],
)
def test_mistakes_write_nothing(
    options, error, message, tool, truth, evaluated, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "truth.json").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text('{"iteration": 1}\n{"iteration": 2}\n')
    (tmp_path / "five").mkdir()
    (tmp_path / "five" / "metrics.json").write_text("5")
    (tmp_path / "folders" / "metrics.json").mkdir(parents=True)
    predictions = evaluated / "coco_instances_results.json"
    arguments = {"--predictions": predictions, "--truth": truth, "--output": "new", **options}
    with pytest.raises(error, match=message):
        tool.main([text for pair in arguments.items() for text in " ".join(map(str, pair)).split()])
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.json"]


def test_results_of_predict_keep_its_threshold(tool, tmp_path):
    results = tmp_path / "coco.json"
    results.write_text("[]")
    assert tool.threshold_of(results) == 0.5
    (tmp_path / "predict.json").write_text('{"settings": {"score_threshold": 0.35}}')
    assert tool.threshold_of(results) == 0.35
    assert tool.threshold_of(tmp_path / "of_another_tool.json") == 0.5
