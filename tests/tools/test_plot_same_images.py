"""Figures compare an image with itself: image ids start at 1 in every split of a data set."""

import json

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog

from unet_sharp_det.errors import UserError
from unet_sharp_det.evaluation.record import EvaluationRecord
from unet_sharp_det.report.plots import plot_boxplots, plot_grid

DATASET = "test_plots_same_images"
HEADERS = {"semantic": "image_id,file_name,channel,IoU", "instances": "image_id,file_name,IoU"}


@pytest.fixture
def evaluated_run(tmp_path):
    """A function (name, file names of images 1, 2, ..., kind) that writes a run; its folder."""

    def write(name, files, kind="instances"):
        folder = tmp_path / name / "inference"
        folder.mkdir(parents=True)
        channel = ",a" if kind == "semantic" else ""
        rows = [f"{i},{file}{channel},{10 * i}" for i, file in enumerate(files, 1)]
        (folder / f"{kind}_per_image.csv").write_text("\n".join([HEADERS[kind], *rows]))
        predictions = "coco_instances_results.json"
        (folder / predictions).write_text(json.dumps([]))
        EvaluationRecord(dataset=DATASET, truth="truth.json", predictions=predictions).write(folder)
        return tmp_path / name

    return write


@pytest.fixture
def dataset(tmp_path):
    """A data set whose images 1 and 2 are A.png and B.png."""
    size = {"height": 8, "width": 12}
    records = [
        {"image_id": i, "file_name": str(tmp_path / name), "annotations": [], **size}
        for i, name in enumerate(["A.png", "B.png"], 1)
    ]
    for record in records:
        cv2.imwrite(record["file_name"], np.zeros((8, 12, 3), np.uint8))
    DatasetCatalog.register(DATASET, lambda: records)
    yield DATASET
    DatasetCatalog.remove(DATASET)


@pytest.mark.parametrize("files", [["A.png", "C.png"], ["A.png", "C.png", "D.png"]])
def test_grid_of_a_run_on_another_split(evaluated_run, dataset, tmp_path, files):
    runs = [evaluated_run("same", ["A.png", "B.png"]), evaluated_run("other", files)]
    with pytest.raises(UserError) as error:
        plot_grid(runs, dataset, tmp_path / "f.png")
    assert str(error.value) == (
        f"{runs[1]} was evaluated on another data set: its image 2 is C.png, in {dataset} it is "
        f"B.png; give --dataset the one it was evaluated on, or evaluate it on {dataset}."
    )
    assert not (tmp_path / "f.png").exists()


@pytest.mark.parametrize("kind", ["semantic", "instances"])
def test_boxplots_of_runs_on_different_splits(evaluated_run, tmp_path, kind):
    runs = [evaluated_run("a", ["A.png", "B.png"]), evaluated_run("b", ["A.png", "C.png"], kind)]
    with pytest.raises(UserError) as error:
        plot_boxplots(runs, tmp_path / "f.png")
    assert str(error.value) == (
        f"{runs[1]} was evaluated on another data set: its image 2 is C.png, in {runs[0]} it is "
        "B.png; give --dataset one that both were evaluated on, or evaluate them on the same."
    )
    assert not (tmp_path / "f.png").exists()


def test_the_folder_of_the_images_does_not_matter(evaluated_run, dataset, tmp_path):
    files = ["elsewhere/A.png", "elsewhere/B.png"]
    runs = [evaluated_run("a", ["A.png", "B.png"]), evaluated_run("b", files)]
    plot_grid(runs, dataset, tmp_path / "grid.png")
    plot_boxplots(runs, tmp_path / "boxplots.png")
    assert (tmp_path / "grid.png").exists()
    assert (tmp_path / "boxplots.png").exists()
