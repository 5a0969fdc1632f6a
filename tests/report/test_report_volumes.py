"""Reports on volumes: the numbers of the evaluation, case by case, and the slices that it drew."""

import json

import numpy as np
import pytest
import torch
from scans import write_scan

from unet_sharp_det.data.volume_catalog import register_volumes
from unet_sharp_det.errors import UserError
from unet_sharp_det.evaluation.evaluate_files import evaluate_files
from unet_sharp_det.evaluation.evaluators.volumes import VolumeEvaluator
from unet_sharp_det.evaluation.record import EvaluationOptions
from unet_sharp_det.modeling.semantic_labels import SemanticLabels
from unet_sharp_det.report import write_report
from unet_sharp_det.report.collect import collect_methods
from unet_sharp_det.report.page import _VolumeAnalysis

LABELS = SemanticLabels(num_classes=2)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Folders of two runs on three volumes, with their metrics. The first is right but for the
    tumour of the volume b, which it does not find; the second finds the liver 2 mm too high."""
    folder = tmp_path_factory.mktemp("volumes")
    truth = np.zeros((8, 16, 16), np.uint8)
    truth[2:6, 3:12, 3:12] = 1
    truth[3:5, 5:8, 5:8] = 2
    cases = []
    for name in "abc":
        write_scan(folder / f"{name}.nii.gz", truth * 90 + np.uint8(ord(name) - 97), (1, 1, 2))
        write_scan(folder / f"{name}_label.nii.gz", truth, (1, 1, 2))
        case = {"id": name, "image": [f"{name}.nii.gz"], "label": f"{name}_label.nii.gz"}
        cases.append(case)
    labels = {"0": "background", "1": "liver", "2": "tumour"}
    content = {"modality": ["CT"], "labels": labels, "train": [], "val": [], "test": cases}
    (folder / "dataset.json").write_text(json.dumps(content))
    register_volumes("reported", folder / "dataset.json")
    channels = np.stack([truth == 1, truth == 2])
    found = {}
    for run in ("first", "second"):
        options = {"options": EvaluationOptions(), "output_dir": str(folder / run / "inference")}
        evaluator = VolumeEvaluator("reported_test", LABELS, **options)
        for record in evaluator._records.values():
            predicted = channels.copy()
            if run == "second":
                predicted[0] = np.roll(predicted[0], 1, axis=0)
            elif record["image_id"] == "b":
                predicted[1] = False
            evaluator.process([record], [{"sem_seg": torch.from_numpy(predicted).float()}])
        found[folder / run] = evaluator.evaluate()["sem_seg"]
    return found


def test_the_numbers_are_those_of_the_evaluation(evaluated):
    methods = collect_methods(list(evaluated))
    comparison = _VolumeAnalysis(methods, samples=50, ap_samples=5).comparison
    for number, metrics in enumerate(evaluated.values()):
        for name, value in metrics.items():
            found = comparison.estimates[number][name]
            assert found.value == pytest.approx(value, abs=1e-3, nan_ok=True), name
            assert (found.interval() != "") == ("_image_mean" in name)
    first, second = (method.seeds[0] for method in methods)
    assert first.results.image_values("Dice_image_mean").tolist() == [100, 50, 100]
    assert first.results.cases["HD95"][:, 1].tolist() == pytest.approx([0, np.nan, 0], nan_ok=True)
    assert second.results.cases["HD95"][0, 0] == pytest.approx(2)
    assert first.picture(0).shape == (16 * 16, 2 * 16 * 16, 3)
    rows = comparison.rows
    assert rows["Dice_image_mean/tumour"].differences[0].value == pytest.approx(100 / 3)
    assert rows["HD95_image_mean"].verdict(0) == "worse"


def test_the_page_begins_with_the_worst_volume(evaluated, browser_page, tmp_path):
    write_report(list(evaluated), tmp_path / "r.html", worst=2, samples=20, full=True)
    opened = browser_page(tmp_path / "r.html", width=1400)
    assert opened.problems == []
    assert opened.page.locator("#cases tbody tr").count() == 3 * 2 * 2
    assert "Dice of the foreground" in opened.page.inner_text("#verdict")
    assert opened.page.locator(".first img").count() == 2
    assert opened.page.locator("#worst h3").count() == 2
    assert opened.page.locator("#worst img").count() == 4
    text = opened.page.inner_text("main")
    assert "Only 3 volumes were judged" in text
    assert "Worst volume of second" in text
    opened.page.set_viewport_size({"width": 400, "height": 900})
    rooms = """() => [...document.querySelectorAll(".numbers td b")].map((value) => {
      const cell = value.closest("td"), words = document.createElement("span");
      words.textContent = cell.dataset.label;
      cell.parentElement.append(words);
      const {width} = words.getBoundingClientRect();
      words.remove();
      return value.getBoundingClientRect().left - cell.getBoundingClientRect().left - width;
    })"""
    found = opened.page.evaluate(rooms)  # between the name of a number and the number, in px
    assert len(found) == 8
    assert min(found) > 0


def test_what_cannot_be_compared(evaluated, runs, tmp_path):
    volumes = next(iter(evaluated))
    with pytest.raises(UserError, match="are of other volumes or classes"):
        collect_methods([volumes, runs[0]])
    with pytest.raises(UserError, match="are of other volumes or classes"):
        collect_methods([runs[0], volumes])
    table = volumes / "inference" / "semantic_per_image.csv"
    text = table.read_text()
    table.write_text(text[:-40])
    try:
        with pytest.raises(UserError, match="is missing or malformed"):
            collect_methods([volumes])
    finally:
        table.write_text(text)


def test_objects_of_volumes_are_counted_but_not_drawn(tmp_path):
    labels = np.zeros((6, 8, 10), np.uint8)
    labels[:, :4, :4], labels[:, 5:, 5:] = 1, 2
    for folder, found in {"true": labels, "found": labels * (labels != 2)}.items():
        write_scan(tmp_path / folder / "a.nii.gz", found, (1, 1, 2))
    folders = [tmp_path / name for name in ("found", "true", "scores")]
    evaluate_files(*folders, images=tmp_path / "true")
    write_report([tmp_path / "scores"], tmp_path / "report.html", samples=10, ap_samples=10)
    page = (tmp_path / "report.html").read_text()
    assert "DSB score" in page
    assert "data:image/webp" not in page
