"""A fit from an empty folder to a model, and what it refuses."""

import json
import multiprocessing
import os
import re
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tifffile
from evaluation_helpers import coco_dataset
from torch import nn

from unet_sharp_det.checkpoints.trained_model import TrainedModel, open_trained_model
from unet_sharp_det.cli import train
from unet_sharp_det.cli.fit import main
from unet_sharp_det.cli.import_ import main as run_import
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data.folders import read_images, register_images
from unet_sharp_det.errors import ConfigError, DatasetError, UserError
from unet_sharp_det.evaluation.evaluate_files import evaluate_files
from unet_sharp_det.evaluation.evaluation import Evaluation
from unet_sharp_det.evaluation.record import EvaluationOptions, EvaluationRecord
from unet_sharp_det.fit import run as run_of_fit
from unet_sharp_det.fit import thresholds
from unet_sharp_det.fit.thresholds import (
    THRESHOLDS,
    Choice,
    choose_option,
    choose_probability_threshold,
)
from unet_sharp_det.prediction import PredictionOptions, Predictor

SEMANTIC = "configs/quick_schedules/unetsharp_cgm_instant_test.yaml"


def write_cells(root, count=4, side=96, channels=1):
    """Bright discs on noise, with their label maps; of several channels the last has the discs."""
    generator = np.random.default_rng(0)
    for number in range(count):
        image = generator.integers(0, 30, (side, side), dtype=np.uint8)
        labels = np.zeros((side, side), np.uint16)
        for k, (x, y) in enumerate([(20, 20), (70, 22), (44, 66)], 1):
            centre = (x + number, y - number)
            cv2.circle(labels, centre, 9 + k, k, -1)
        image[labels > 0] += 150
        for folder, array in (("images", image), ("masks", labels)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / folder / f"{number}.png"), array)
        if channels > 1:
            (root / "images" / f"{number}.png").unlink()
            noise = generator.integers(0, 4000, (channels - 1, side, side), dtype=np.uint16)
            stack = np.concatenate([noise, image[None].astype(np.uint16)])
            about = {"metadata": {"axes": "CYX"}, "photometric": "minisblack"}
            tifffile.imwrite(root / "images" / f"{number}.tif", stack, imagej=True, **about)


@pytest.fixture
def imported(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    write_cells(tmp_path / "cells")
    run_import([str(tmp_path / "cells"), "--name", "cells", "--classes", "cell"])
    return tmp_path


@pytest.fixture
def in_process(monkeypatch):
    """Trainings run in this process, which needs no time to start."""

    def call(arguments, log, what):
        assert train.main(arguments[1:]) in (0, None)

    monkeypatch.setattr(run_of_fit, "_call", call)


def test_from_images_to_a_model(imported, capsys):
    run = imported / "run"
    options = ["SOLVER.MAX_ITER", "2", "SOLVER.WARMUP_ITERS", "0", "INPUT.CROP.SIZE", "[96, 96]"]
    options += ["SOLVER.CHECKPOINT_PERIOD", "1"]
    (run / "before" / "inference").mkdir(parents=True)  # A stopped evaluation leaves it.
    assert main(["cells", "--output", str(run), "--opts", *options]) == 0
    printed = capsys.readouterr().out
    assert "DSB_score by score threshold: 0.1: " in printed
    assert "Judging nuclei on the validation images" in printed
    assert "  iteration 1" in printed
    assert "Starting training" in (run / "fit.log").read_text()
    assert {path.name for path in run.glob("*.pth")} == {"model_best.pth", "model_final.pth"}
    report = (run / "report.html").read_text()
    assert "before" in report.lower()
    assert "chosen on these images" in report
    predict = Predictor.from_checkpoint(run / "model.safetensors", device="cpu")
    assert predict.class_names == ("cell",)
    record = EvaluationRecord.read(run / "inference")
    assert predict.options.score_threshold == record.options.score_threshold
    found = predict(imported / "cells" / "images" / "0.png")
    assert len(found) == 3  # The model in the package knows such discs.
    own = Predictor.from_checkpoint(
        run / "model.safetensors", options=PredictionOptions(score_threshold=0.2), device="cpu"
    )
    assert own.options.score_threshold == 0.2
    checkpoint = (run / "model_final.pth").stat().st_mtime_ns
    assert main(["cells", "--output", str(run), "--opts", *options]) == 0
    assert (run / "model_final.pth").stat().st_mtime_ns == checkpoint  # It is done.
    settings = (run / "fit.yaml").read_text()
    with pytest.raises(UserError, match="holds a fit of .* another start. Give another --output"):
        main(["cells", "--output", str(run), "--from", "nuclei-fast"])
    write_cells(imported / "cells", count=6)
    run_import([str(imported / "cells"), "--name", "cells", "--classes", "cell"])
    with pytest.raises(UserError, match="holds a fit of other images"):
        main(["cells", "--output", str(run), "--opts", *options])
    assert (run / "fit.yaml").read_text() == settings


def test_two_channels_from_images_to_a_model(imported, tmp_path, in_process):
    write_cells(tmp_path / "two", channels=2)
    run_import([str(tmp_path / "two"), "--name", "two"])
    run = imported / "run2"
    options = ["SOLVER.MAX_ITER", "2", "SOLVER.WARMUP_ITERS", "0", "INPUT.CROP.SIZE", "[96, 96]"]
    assert main(["two", "--output", str(run), "--opts", *options]) == 0
    assert not (run / "before").exists()  # The start sees three channels.
    predict = Predictor.from_checkpoint(run / "model.safetensors", device="cpu")
    path = tmp_path / "two" / "images" / "0.tif"
    found = predict(path)
    # Weights of the package, adapted to the channels, still see the discs.
    assert len(found) > 0
    array = tifffile.imread(path).transpose(1, 2, 0)
    np.testing.assert_array_equal(predict(array).label_map(), found.label_map())
    with pytest.raises(UserError, match="has 1 channels, but the model sees 2"):
        predict(imported / "cells" / "images" / "0.png")


def test_a_value_of_the_config_that_is_wrong_is_told_before_any_work(imported):
    with pytest.raises(ConfigError, match="SOLVER.MAX_ITTER"):
        main(["cells", "--output", str(imported / "run"), "--opts", "SOLVER.MAX_ITTER", "2"])
    assert not (imported / "run" / "before").exists()


@pytest.mark.parametrize("option", [("OUTPUT_DIR", "elsewhere"), ("DATASETS.TEST", "()")])
def test_what_fit_sets_itself_is_no_option(imported, option):
    with pytest.raises(ConfigError, match="DATASETS.TEST are set by fit. Give --output and NAME"):
        main(["cells", "--output", str(imported / "run"), "--opts", *option])
    assert not (imported / "run" / "before").exists()


def test_a_step_that_fails_says_why(imported):
    options = ["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"]
    with pytest.raises(
        UserError, match="Training failed: error: .*REPLAYABLE.*Messages: .*fit.log"
    ):
        main(["cells", "--output", str(imported / "run"), "--from", "scratch", "--opts", *options])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such signal")
def test_a_killed_fit_ends_its_training(tmp_path, monkeypatch):
    alive, program = tmp_path / "alive", tmp_path / "python"
    os.mkfifo(alive)
    program.write_text(
        f"#!/bin/sh\nexec 3>{alive}\necho begun >&3\nsleep 20 3>&-\necho went on >&3\n"
    )
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    arguments = ([], tmp_path / "fit.log", "Training")
    process = multiprocessing.get_context("fork").Process(target=run_of_fit._call, args=arguments)
    process.start()
    with alive.open() as told:
        assert told.readline() == "begun\n"
        process.kill()
        assert told.read() == ""
    process.join()


def test_what_is_missing(imported, tmp_path):
    (tmp_path / "datasets" / "scans").mkdir()
    (tmp_path / "datasets" / "scans" / "dataset.json").write_text('{"modality": ["CT"]}')
    for name in ("other", "scans", "cells/", str(tmp_path / "datasets" / "cells")):
        with pytest.raises(DatasetError, match=f"images '{name}' in .*; there are: cells[.]"):
            main([name, "--output", str(imported / "run")])
    with pytest.raises(UserError, match="there is no file of weights"):
        main(["cells", "--output", str(imported / "run"), "--from", "none.pth"])
    write_cells(tmp_path / "one", count=1)
    run_import([str(tmp_path / "one"), "--name", "one"])
    with pytest.raises(DatasetError, match="has no part 'val'"):
        main(["one", "--output", str(imported / "run")])
    write_cells(tmp_path / "cut" / "train")
    write_cells(tmp_path / "cut" / "val", count=1)
    cv2.imwrite(str(tmp_path / "cut" / "val" / "masks" / "0.png"), np.zeros((96, 96), np.uint16))
    run_import([str(tmp_path / "cut"), "--name", "cut"])
    with pytest.raises(DatasetError, match="validation part holds no object"):
        main(["cut", "--output", str(imported / "run")])
    (tmp_path / "datasets" / "cells" / "fingerprint.json").write_text('{"objects": 0}')
    with pytest.raises(DatasetError, match="training part holds no object"):
        main(["cells", "--output", str(imported / "run")])


def test_a_semantic_model_from_images_to_a_model(imported, repository, capsys, in_process):
    run = imported / "run"
    options = ["SOLVER.MAX_ITER", "2", "SOLVER.WARMUP_ITERS", "0", "INPUT.CROP.SIZE", "[64, 64]"]
    start = str(repository / SEMANTIC)
    assert main(["cells", "--output", str(run), "--from", start, "--opts", *options]) == 0
    printed = capsys.readouterr().out
    taken = re.search(r"Dice_image_mean by probability threshold: .* Taken: ([\d.]+)\.", printed)
    trained = open_trained_model(run / "model.safetensors", device="cpu")
    assert trained.model.sem_seg_head.labels.threshold == float(taken[1])
    assert trained.cfg.MODEL.CLASS_NAMES == ["cell"]
    own, record = trained.cfg.TEST.INSTANCES, EvaluationRecord.read(run / "inference")
    assert own.MIN_AREA == record.options.min_area
    assert "The least area" in (run / "report.html").read_text()


def test_a_model_of_volumes_is_refused(imported):
    with pytest.raises(ConfigError, match="is a VolumeSegmentor, which fit cannot train"):
        main(["cells", "--output", str(imported / "run"), "--from", "Volumes/vnet.yaml"])


def test_the_best_threshold_is_that_of_evaluations(tmp_path, perfect_results):
    truth, results = perfect_results
    record = EvaluationRecord("data", str(truth), str(results), options=EvaluationOptions())
    record.write(tmp_path)
    choice = choose_option(tmp_path, "score_threshold")
    evaluate_files(results, truth, tmp_path / "out", options=EvaluationOptions(score_threshold=0.3))
    values_of_files = Evaluation.repeat(tmp_path / "out").results.values
    found = dict(zip(THRESHOLDS, choice.values[:, 0], strict=True))
    assert found[0.3] == pytest.approx(values_of_files["DSB_score"])
    # The true objects have scores of .6, the false ones of .4.
    assert found[0.5] == 100
    assert found[0.3] < 100
    assert found[0.7] == 0
    assert choice.value == 0.5
    assert "Two or more validation images would tell" in choice.worth
    # The true objects have 100 pixels: a larger least area finds none of them.
    area = choose_option(tmp_path, "min_area")
    assert area.value == 0
    assert area.values[:, 0].tolist() == [100] * 7 + [0] * 4


def test_images_that_choose_the_threshold_flatter_it():
    """Each of three images is found by a threshold of its own; the others know nothing of it."""
    values = np.zeros((len(THRESHOLDS), 3))
    values[[2, 8, 14], [0, 1, 2]] = 60, 50, 40
    choice = Choice("threshold", "DSB_score", THRESHOLDS, values)
    assert values[THRESHOLDS.index(choice.value)].mean() == 20
    assert choice.cross_validated == 0
    same = np.tile(np.linspace(0, 90, len(THRESHOLDS))[:, None], 3)
    assert replace(choice, values=same).cross_validated == 90


class Shine(nn.Module):
    """A semantic model whose probability is a pixel's brightness."""

    def forward(self, inputs):
        return [{"sem_seg": each["image"][:1].float() / 255} for each in inputs]


def test_the_probability_threshold_and_the_least_area(imported, repository, monkeypatch):
    """Discs and specks of 9 pixels have a brightness of .29 to .35; the specks are no objects."""
    for path in (imported / "cells" / "images").iterdir():
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) // 2
        image[2:5, 40:43] = image[90:93, 4:7] = 80
        cv2.imwrite(str(path), image)
    cfg = setup_cfg(str(repository / SEMANTIC), ["INPUT.STRETCH_CONTRAST", "False"])
    cfg.DATASETS.TEST, cfg.MODEL.DEVICE, run = ("cells_val",), "cpu", imported / "run"
    folder = imported / "datasets" / "cells"
    register_images("cells", folder, read_images(folder))
    monkeypatch.setattr(thresholds, "load_trained_model", lambda cfg: TrainedModel(Shine(), cfg))
    monkeypatch.setattr(thresholds, "accelerate", lambda model: model)
    choice = choose_probability_threshold(cfg, run / "model_final.pth", run / "inference")
    found = dict(zip(THRESHOLDS, choice.values.mean(axis=1), strict=True))
    assert found[0.1] == found[0.25] > 95 > found[0.3] > found[0.5] == 0
    assert choice.value == 0.25
    own = cfg.clone()
    note = run_of_fit._choose_thresholds(own, run)
    table = run_of_fit._evaluate_again(own, run)
    assert own.MODEL.SEM_SEG_HEAD.PROB_THRESHOLD == own.TEST.INSTANCES.SCORE_THRESHOLD == 0.25
    assert own.TEST.INSTANCES.MIN_AREA == 16
    assert re.search(r"\| DSB_score +\| +100.00 \|", table)
    assert "probability threshold 0.25 was chosen" in note
    assert "least area 16 was chosen" in note
    cfg.MODEL.SEM_SEG_HEAD.ACTIVATION, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = "softmax", 2
    note = run_of_fit._choose_thresholds(cfg, run)
    assert "no probability threshold was chosen. The least area 16" in note
    assert cfg.MODEL.SEM_SEG_HEAD.PROB_THRESHOLD == 0.5


@pytest.fixture
def perfect_results(tmp_path):
    """A COCO truth of one image, and results: its objects, and a false one with a lower score."""
    boxes, scores = [(x, 5, x + 10, 15) for x in (0, 12, 28)], (0.6, 0.6, 0.4)
    truth = coco_dataset({1: boxes[:2]}, size=(40, 40))
    found = coco_dataset({1: boxes}, size=(40, 40))["annotations"]
    results = [{**each, "score": score} for each, score in zip(found, scores, strict=True)]
    paths = tmp_path / "truth.json", tmp_path / "results.json"
    for path, content in zip(paths, (truth, results), strict=True):
        path.write_text(json.dumps(content))
    return paths
