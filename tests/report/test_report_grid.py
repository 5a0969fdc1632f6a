"""The grid of images and runs: which images, and the colour of each pixel."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from evaluation_helpers import encode, rectangle_mask
from label_map_files import save

from unet_sharp_det.errors import UserError
from unet_sharp_det.evaluation.evaluate_files import evaluate_files
from unet_sharp_det.evaluation.record import EvaluationRecord
from unet_sharp_det.report.collect import RunReport
from unet_sharp_det.report.grid import (
    IGNORED_COLOR,
    choose_images,
    grid_plot,
    pixel_picture,
    truth_picture,
)
from unet_sharp_det.report.overlays import OUTCOME_COLORS

SIZE = (20, 30)


def pixels_of(picture, color):
    return (picture == color).all(axis=2)


def test_every_pixel_has_the_colour_of_its_outcome():
    boxes = (0, 0, 10, 10), (5, 0, 15, 10), (0, 8, 30, 20)
    truth, found, void = (rectangle_mask(*SIZE, box) for box in boxes)
    image = np.full((*SIZE, 3), 100, np.uint8)
    picture = pixel_picture(image, truth, found, void)
    outcomes = {"TP": truth & found, "FP": found & ~truth, "FN": truth & ~found}
    for name, pixels in outcomes.items():
        np.testing.assert_array_equal(pixels_of(picture, OUTCOME_COLORS[name]), pixels & ~void)
    np.testing.assert_array_equal(pixels_of(picture, IGNORED_COLOR), void)
    assert (picture[:8, 20] == 90).all()
    dark = pixel_picture(image // 10, truth, found, void)
    np.testing.assert_array_equal(dark, picture)
    shown = truth_picture(truth, void)
    np.testing.assert_array_equal(pixels_of(shown, 255), truth & ~void)
    np.testing.assert_array_equal(pixels_of(shown, IGNORED_COLOR), void)


def test_images_on_which_runs_differ_most_or_the_worst_of_one(reports):
    first, second = (run.results.image_values("IoU_image_mean") for run in reports)
    expected = np.argsort(-abs(first - second), kind="stable")
    assert choose_images(reports, ["3"]) == expected[:3].tolist()
    assert choose_images(reports, ["99"]) == expected.tolist()
    assert choose_images(reports[:1], ["1"]) == [int(np.argmin(first))]
    assert choose_images(reports, ["0"]) == []


def test_images_by_their_ids_or_file_names(reports):
    images = reports[0].images
    stem = images[2].file_name.split("/")[-1].removesuffix(".png")
    assert choose_images(reports, [stem, str(images[0].image_id)]) == [2, 0]
    with pytest.raises(UserError, match=f"--grid.*Did you mean '{stem}'"):
        choose_images(reports, [f"{stem}x", "1"])


def test_it_shows_what_the_measures_compared(reports):
    plot = grid_plot(reports, [3, 5])
    axes = np.reshape(plot.figure.axes, (2, 4))
    assert [ax.get_title() for ax in axes[0]] == ["image", "ground truth", "first", "second"]
    for row, of_image in zip([3, 5], axes, strict=True):
        pictures = [np.asarray(ax.get_images()[0].get_array()) for ax in of_image]
        np.testing.assert_array_equal(pictures[0], reports[0].picture(row))
        for run, ax, picture in zip(reports, of_image[2:], pictures[2:], strict=True):
            tp, fp, fn = (pixels_of(picture, OUTCOME_COLORS[k]).sum() for k in ("TP", "FP", "FN"))
            iou = run.results.image_values("IoU_image_mean")[row]
            assert 100 * tp / (tp + fp + fn) == pytest.approx(iou)
            assert ax.get_xlabel() == f"IoU {iou:.1f} %"
            assert pixels_of(pictures[1], 255).sum() == tp + fn
    (legend,) = plot.figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["true positive", "false positive", "false negative"]


def test_a_long_image_has_a_figure_of_usual_size(tmp_path):
    for folder in ("true", "found"):
        save(tmp_path / folder / "a.png", np.ones((2000, 2), np.uint8))
    evaluate_files(tmp_path / "found", tmp_path / "true", tmp_path / "out", samples=2)
    figure = grid_plot([RunReport.read(tmp_path / "out", "x")], [0]).figure
    assert figure.get_figheight() < 10


def test_a_semantic_run_beside_one_of_instances(runs, reports, tmp_path):
    """The upper half of all nuclei: found in one piece, or not at all."""
    folder, (first, _) = shutil.copytree(runs[0], tmp_path / "semantic"), reports
    masks = {each.image_id: first.truth.instance_map(each.image_id).labels for each in first.images}
    entries = []
    for image in first.images:
        mask = masks[image.image_id] > 0
        mask[len(mask) // 2 :] = False
        names = {"image_id": image.image_id, "file_name": image.file_name, "channel": "nucleus"}
        entries.append({**names, "segmentation": encode(mask)})
    (folder / "inference" / "semantic_predictions.json").write_text(json.dumps(entries))
    record = EvaluationRecord.read(folder / "inference")
    path = str(folder / "inference" / "semantic_predictions.json")
    replace(record, predictions=path).write(folder / "inference")
    semantic = RunReport.read(folder, "semantic")
    plot = grid_plot([first, semantic], [0])
    picture = np.asarray(plot.figure.axes[3].get_images()[0].get_array())
    truth = masks[first.images[0].image_id] > 0
    upper = np.arange(len(truth))[:, None] < len(truth) // 2
    np.testing.assert_array_equal(pixels_of(picture, OUTCOME_COLORS["TP"]), truth & upper)
    np.testing.assert_array_equal(pixels_of(picture, OUTCOME_COLORS["FN"]), truth & ~upper)
    assert not pixels_of(picture, OUTCOME_COLORS["FP"]).any()
