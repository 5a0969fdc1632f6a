"""A fit from an empty folder to a model, and what it refuses."""

import cv2
import numpy as np
import pytest
import tifffile

from unet_sharp_det.cli.fit import main
from unet_sharp_det.cli.import_ import main as run_import
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import ConfigError, DatasetError, UserError
from unet_sharp_det.evaluation.evaluate_files import evaluate_files
from unet_sharp_det.evaluation.evaluation import Evaluation
from unet_sharp_det.evaluation.record import EvaluationOptions, EvaluationRecord
from unet_sharp_det.fit.thresholds import (
    THRESHOLDS,
    best_threshold,
    cross_validated,
    measure_by_threshold,
)
from unet_sharp_det.prediction import PredictionOptions, Predictor


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


def test_from_images_to_a_model(imported, capsys):
    run = imported / "run"
    options = ["SOLVER.MAX_ITER", "2", "SOLVER.WARMUP_ITERS", "0", "INPUT.CROP.SIZE", "[96, 96]"]
    options += ["SOLVER.CHECKPOINT_PERIOD", "1"]
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


def test_two_channels_from_images_to_a_model(imported, tmp_path, capsys):
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


def test_a_step_that_fails_says_why(imported):
    options = ["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"]
    with pytest.raises(
        UserError, match="Training failed: error: .*REPLAYABLE.*Messages: .*fit.log"
    ):
        main(["cells", "--output", str(imported / "run"), "--from", "scratch", "--opts", *options])


def test_what_is_missing(imported, tmp_path):
    with pytest.raises(DatasetError, match="no data set of images.*there are: cells"):
        main(["other", "--output", str(imported / "run")])
    with pytest.raises(UserError, match="there is no file of weights"):
        main(["cells", "--output", str(imported / "run"), "--from", "none.pth"])
    write_cells(tmp_path / "one", count=1)
    run_import([str(tmp_path / "one"), "--name", "one"])
    with pytest.raises(DatasetError, match="has no part 'val'"):
        main(["one", "--output", str(imported / "run")])


def test_a_model_of_pixels_is_refused(imported, tmp_path, repository):
    config = repository / "configs/DSB2018-SemanticSegmentation/unetsharp.yaml"
    (tmp_path / "config.yaml").write_text(setup_cfg(str(config)).dump())
    (tmp_path / "semantic.pth").write_bytes(b"is not read")
    with pytest.raises(ConfigError, match="labels pixels, not objects. Give --from nuclei-fast"):
        main(["cells", "--output", str(imported / "run"), "--from", str(tmp_path / "semantic.pth")])


def test_the_best_threshold_is_that_of_evaluations(tmp_path, perfect_results):
    truth, results = perfect_results
    record = EvaluationRecord("data", str(truth), str(results), options=EvaluationOptions())
    values = measure_by_threshold(record, "DSB_score")
    evaluate_files(results, truth, tmp_path / "out", options=EvaluationOptions(score_threshold=0.3))
    values_of_files = Evaluation.repeat(tmp_path / "out").results.values
    found = dict(zip(THRESHOLDS, values[:, 0], strict=True))
    assert found[0.3] == pytest.approx(values_of_files["DSB_score"])
    # The true objects have scores of .6, the false ones of .4.
    assert found[0.5] == 100
    assert found[0.3] < 100
    assert found[0.7] == 0
    assert THRESHOLDS[best_threshold(values)] == 0.5


def test_images_that_choose_the_threshold_flatter_it():
    """Each of three images is found by a threshold of its own; the others know nothing of it."""
    values = np.zeros((len(THRESHOLDS), 3))
    values[[2, 8, 14], [0, 1, 2]] = 60, 50, 40
    assert values[best_threshold(values)].mean() == 20
    assert cross_validated(values) == 0
    same = np.tile(np.linspace(0, 90, len(THRESHOLDS))[:, None], 3)
    assert cross_validated(same) == 90


@pytest.fixture
def perfect_results(tmp_path):
    """A COCO truth of one image, and results: its objects, and false ones with lower scores."""
    import json

    import pycocotools.mask as mask_util

    def rle(x):
        mask = np.zeros((40, 40), np.uint8, order="F")
        mask[5:15, x : x + 10] = 1
        found = mask_util.encode(mask)
        return {**found, "counts": found["counts"].decode()}

    truth = {"images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 40}]}
    truth |= {"categories": [{"id": 1, "name": "cell"}], "annotations": []}
    results = []
    for number, (x, score) in enumerate(((0, 0.6), (12, 0.6), (28, 0.4)), 1):
        if score > 0.5:
            entry = {"id": number, "image_id": 1, "category_id": 1, "segmentation": rle(x)}
            truth["annotations"].append(entry)
        results.append({"image_id": 1, "category_id": 1, "score": score, "segmentation": rle(x)})
    paths = tmp_path / "truth.json", tmp_path / "results.json"
    for path, content in zip(paths, (truth, results), strict=True):
        path.write_text(json.dumps(content))
    return paths
