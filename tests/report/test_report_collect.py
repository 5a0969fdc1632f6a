"""What is read of runs, and what is told when they cannot be read or compared."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from unet_sharp_det.errors import UserError
from unet_sharp_det.evaluation.evaluate_files import evaluate_files
from unet_sharp_det.evaluation.evaluation import find_evaluation
from unet_sharp_det.evaluation.readers.truth import CocoTruth
from unet_sharp_det.evaluation.record import EvaluationOptions, EvaluationRecord
from unet_sharp_det.report.collect import RunReport, collect_methods, looks_of
from unet_sharp_det.report.comparison import estimates_of
from unet_sharp_det.report.environment import config_differences, fingerprint, report_environment
from unet_sharp_det.report.labels import label_folders
from unet_sharp_det.report.training import Training, read_curves


@pytest.fixture
def copied(runs, tmp_path):
    """A copy of the first run, to be changed."""
    return shutil.copytree(runs[0], tmp_path / "copy")


def change_record(run, **changes):
    folder = run / "inference"
    replace(EvaluationRecord.read(folder), **changes).write(folder)


def change_truth(run, path, change):
    """Let the run be of a changed copy of its truth, at ``path``."""
    content = json.loads(open(EvaluationRecord.read(run / "inference").truth).read())
    change(content)
    path.write_text(json.dumps(content))
    change_record(run, truth=str(path))


class TestRuns:
    def test_a_training(self, reports):
        first = reports[0]
        assert first.label == "first"
        assert len(first.images) == 8
        assert set(first.coco) == {"segm", "bbox"}
        assert set(first.training.curves) >= {"total_loss", "lr", "segm/AP"}
        assert first.picture(0).shape == (*first.images[0].shape, 3)

    def test_a_folder_of_an_evaluation_has_no_training(self, runs, copied):
        for name in ("evaluation.json", "coco_instances_results.json"):
            shutil.move(copied / "inference" / name, copied / name)
        run = RunReport.read(copied, "x")
        assert run.training == Training()
        assert run.results.metrics == RunReport.read(runs[0], "y").results.metrics

    def test_looks_are_those_of_the_truth_or_guessed(self, copied, tmp_path, sample_folder):
        rows = (sample_folder / "looks.csv").read_text().splitlines()[1:]
        known = {row.split(",")[0]: row.split(",")[2] for row in rows}
        run = RunReport.read(copied, "x")
        names = [image.file_name.split("/")[-1].removesuffix(".png") for image in run.images]
        assert looks_of([run]) == [known[name] for name in names]
        change_truth(copied, tmp_path / "t.json", lambda c: c["images"][0].update(look="odd"))
        first = CocoTruth(tmp_path / "t.json").coco.dataset["images"][0]["id"]
        run = RunReport.read(copied, "x")
        row = [image.image_id for image in run.images].index(first)
        assert looks_of([run])[row] == "odd"
        change_record(copied, images=None)
        assert set(looks_of([RunReport.read(copied, "x")])) == {"odd", None}

    def test_several_data_sets(self, copied):
        for name in ("a", "b"):
            shutil.copytree(copied / "inference", copied / "inference" / name)
            folder = copied / "inference" / name
            replace(
                EvaluationRecord.read(folder),
                dataset=name,
                predictions="coco_instances_results.json",
            ).write(folder)
        (copied / "inference" / "evaluation.json").unlink()
        with pytest.raises(UserError, match="choose one by --dataset. Available: a, b"):
            find_evaluation(copied)
        assert find_evaluation(copied, "b") == copied / "inference" / "b"
        with pytest.raises(UserError, match="--dataset.*'c' is not known.*Available: a, b"):
            find_evaluation(copied, "c")

    def test_ap_is_of_the_first_runs_options(self, runs, copied):
        options = EvaluationOptions(score_threshold=0.9, max_dets=1, area_sides=(10, 20))
        change_record(copied, options=options)
        first, second = (each.seeds[0] for each in collect_methods([runs[0], copied]))
        assert first.coco["segm"].metrics == second.coco["segm"].metrics
        assert first.results.object_counts[1] > second.results.object_counts[1] > 0
        own = RunReport.read(copied, "x").coco["segm"]
        assert own.metrics["AP"] < first.coco["segm"].metrics["AP"]

    def test_the_order_of_images_in_the_truth_does_not_matter(self, runs, copied, tmp_path):
        change_truth(copied, tmp_path / "t.json", lambda content: content["images"].reverse())
        weights, found = np.array([[3, 0, 1, 0, 2, 1, 0, 1], [1, 1, 1, 1, 1, 1, 1, 1]]), []
        for method in collect_methods([runs[0], copied]):
            (run,) = method.seeds
            found.append(estimates_of(run, weights, 2).drawn)
            assert found[-1]["segm/AP"][1] == pytest.approx(run.coco["segm"].metrics["AP"])
        for name in ("segm/AP", "bbox/AP75", "DSB_score"):
            np.testing.assert_allclose(*(drawn[name] for drawn in found))

    def test_labels(self, runs):
        with pytest.raises(UserError, match="1 labels for 2 runs"):
            collect_methods(runs, ["a"])

    def test_equal_labels_are_seeds_of_one_method(self, runs):
        (method,) = collect_methods(runs, ["a", "a"])
        assert (method.label, [run.label for run in method.seeds]) == (
            "a",
            ["a, 1 of 2", "a, 2 of 2"],
        )
        values = [run.results.image_values("DSB_score") for run in method.seeds]
        np.testing.assert_allclose(method.image_values("DSB_score"), np.mean(values, axis=0))
        counts = [run.results.object_counts[1] for run in method.seeds]
        assert method.object_counts.sum() == pytest.approx(np.mean(counts))

    @pytest.mark.parametrize(
        "folders, labels",
        [
            ("x/a_fpn/seed0 x/a_fpn/seed1 x/a_unetpp/seed0", "fpn fpn unetpp"),
            ("x/fpn_seed1 x/fpn-Seed2", "fpn fpn"),
            ("x/nuclei x/nuclei-fast", "nuclei nuclei-fast"),
            ("x/run_1 x/run_2", "run_1 run_2"),
            ("x/a/inference x/b/inference", "a b"),
            ("x/net x/net/L2", "net L2"),
            ("x/net/seed3", "net"),
            ("x/a/1 x/b/1 y/a/2", "x/a/1 x/b/1 y/a/2"),
            ("seedlings1 seedlings2", "seedlings1 seedlings2"),
        ],
    )
    def test_labels_are_what_differs_without_the_seed(self, folders, labels):
        assert label_folders([Path("/y", each) for each in folders.split()]) == labels.split()

    def test_a_run_given_twice(self, runs, monkeypatch):
        monkeypatch.chdir(runs[0].parent)
        for twice, labels in (([runs[0], runs[1], "first"], None), ([runs[0]] * 2, ["a", "a"])):
            with pytest.raises(UserError, match="The run .*first is given twice. Give each.*lab"):
                collect_methods(twice, labels)
        assert [each.label for each in collect_methods(["first", "first"], ["a", "b"])] == [
            "a",
            "b",
        ]


class TestErrors:
    def test_no_evaluation(self, tmp_path):
        with pytest.raises(UserError, match=r"no evaluation.json in .*unet-sharp-det train"):
            collect_methods([tmp_path / "none"])

    @pytest.mark.parametrize("what, key", [("ground truth", "truth"), ("predictions",) * 2])
    def test_a_missing_file(self, copied, what, key):
        change_record(copied, **{key: "/nowhere/file.json"})
        message = f"{what} /nowhere/file.json.*evaluate again.*unet-sharp-det"
        with pytest.raises(UserError, match=message):
            collect_methods([copied])

    def test_pictures_of_another_size(self, copied, tmp_path):
        image = RunReport.read(copied, "x").images[0]
        path = tmp_path / image.file_name
        path.parent.mkdir()
        cv2.imwrite(str(path), np.zeros((7, 9, 3), np.uint8))
        change_record(copied, images=str(tmp_path))
        with pytest.raises(UserError, match=r"images/.*.png: has .height, width. \(7, 9\)"):
            RunReport.read(copied, "x").picture(0)

    def test_changed_predictions(self, copied):
        run = RunReport.read(copied, "x")
        run.results.write(copied / "inference", run.record.dataset, run.record.options)
        RunReport.read(copied, "x")
        path = copied / "inference" / "coco_instances_results.json"
        results = json.loads(path.read_text())
        results[0]["score"] = 0.1 if results[0]["score"] >= 0.5 else 0.9
        path.write_text(json.dumps(results))
        with pytest.raises(UserError, match="has predicted_objects .* changed since the eval"):
            RunReport.read(copied, "x")
        path = copied / "inference" / "instance_metrics.json"
        text = '{"objects": "4", "predicted_objects": 1, "results": {}}'
        for content in ("{}", text, text.replace('"4"', str(10**400))):
            path.write_text(content)
            with pytest.raises(UserError, match=r"instance_metrics.json: is malformed"):
                RunReport.read(copied, "x")

    def test_other_images(self, runs, copied, tmp_path):
        def drop_an_image(content):
            gone = content["images"].pop()["id"]
            content["annotations"] = [a for a in content["annotations"] if a["image_id"] != gone]

        change_truth(copied, tmp_path / "t.json", drop_an_image)
        kept = set(CocoTruth(tmp_path / "t.json").records)
        path = copied / "inference" / "coco_instances_results.json"
        results = [r for r in json.loads(path.read_text()) if r["image_id"] in kept]
        path.write_text(json.dumps(results))
        with pytest.raises(UserError, match=r"copy lacks 1 image of first, e.g. images/"):
            collect_methods([runs[0], copied])
        with pytest.raises(UserError, match=r"copy lacks 1 image of first"):
            collect_methods([copied, runs[0]])

    def test_another_image_of_the_same_id(self, runs, copied, tmp_path):
        def rename(content):
            content["images"][0]["file_name"] = "other.png"

        change_truth(copied, tmp_path / "t.json", rename)
        with pytest.raises(UserError, match="of other images: image .* other.png"):
            collect_methods([runs[0], copied])

    def test_other_objects(self, runs, copied, tmp_path):
        change_truth(copied, tmp_path / "t.json", lambda content: content["annotations"].pop())
        with pytest.raises(UserError, match="other true objects in images/.*evaluate both"):
            collect_methods([runs[0], copied])


LINES = ['{"iteration": 0, "lr": 1, "x": NaN}', '{"iteration": 19, "lr": 2, "d/segm/AP": 3}']


class TestTraining:
    def test_curves(self, tmp_path):
        path = tmp_path / "metrics.json"
        cut_off, resumed = '{"iteration": 39, "l', '{"iteration": 0, "lr": 5}'
        path.write_text("\n".join([cut_off + resumed, *LINES, resumed, cut_off]))
        curves = read_curves(path, "d")
        assert {name: [x.tolist() for x in curve] for name, curve in curves.items()} == {
            "lr": [[0, 19], [5, 2]],
            "segm/AP": [[19], [3]],
        }
        for line in ("[]", '{"iteration": null}'):
            path.write_text("\n".join([line, *LINES]))
            with pytest.raises(
                UserError, match=r"metrics.json, line 1: is no line of a training's"
            ):
                read_curves(path)

    @pytest.mark.parametrize(
        "dataset, name, expected",
        [
            ("d", "d/segm/AP", "segm/AP"),
            ("d", "validation/d/total_loss", "validation/total_loss"),
            ("d", "other/segm/AP", "other/segm/AP"),
            ("segm", "segm/AP", "segm/AP"),
            ("segm", "segm/segm/AP", "segm/AP"),
            ("validation", "validation/total_loss", "validation/total_loss"),
        ],
    )
    def test_the_data_set_is_cut_off_as_a_whole(self, tmp_path, dataset, name, expected):
        (tmp_path / "metrics.json").write_text(json.dumps({"iteration": 1, name: 2}))
        assert list(read_curves(tmp_path / "metrics.json", dataset)) == [expected]

    def test_a_folder_without_anything(self, tmp_path):
        assert Training.of_evaluation(tmp_path / "inference", tmp_path, "d") == Training()

    def test_environment_has_versions(self):
        assert "detectron2" in report_environment()

    def test_keys_that_differ(self):
        configs = ["A: {B: 1, C: 2}\nD: []\n", "A: {B: 3, C: 2}\nE: x\n", "", "!!python/tuple [1]"]
        assert config_differences(configs) == [
            ("A.B", ["1", "3", "?", "?"]),
            ("D", ["[]", "not there", "?", "?"]),
            ("E", ["not there", "x", "?", "?"]),
        ]
        assert config_differences(configs[2:]) == []

    @pytest.mark.parametrize("value", ["2020-13-45", "!!bool x", "&x {b: *x}"])
    def test_a_config_that_cannot_be_read(self, value):
        configs = [f"A: {value}", "A: 1", "A: 2"]
        assert config_differences(configs) == [("A", ["?", "1", "2"])]

    def test_fingerprint(self, tmp_path, monkeypatch):
        monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
        (tmp_path / "f").write_bytes(b"abc")
        for path in (tmp_path / "f", f"file://{tmp_path}/f"):
            assert fingerprint(path) == "ba7816bf8f01"
        assert fingerprint(tmp_path) == ""


def test_label_maps_with_endings_of_their_own_are_found_again(tmp_path):
    labels = np.kron(np.arange(4).reshape(2, 2), np.ones((4, 4), int)).astype(np.uint8)
    for folder, ending in (("true", "-gt"), ("found", "-net")):
        for stem in ("a", "b")[: 1 + (folder == "true")]:
            (tmp_path / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / folder / f"{stem}{ending}.png"), labels)
    options = {"suffix": "-net", "truth_suffix": "-gt", "allow_missing": True, "samples": 10}
    evaluate_files(tmp_path / "found", tmp_path / "true", tmp_path / "out", **options)
    run = RunReport.read(tmp_path / "out", "x")
    assert run.results.object_counts == (6, 3)
    assert run.coco == {}
