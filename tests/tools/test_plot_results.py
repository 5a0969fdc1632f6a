"""The figures hold what the evaluators wrote, and say what is missing.

Three images of 20 x 30 pixels: image 1 has one nucleus of 100 pixels, 2 one of 200, 3 none.
"""

import csv
import importlib.util
import json
import re

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances

from unet_sharp_det.data import register_coco_nuclei
from unet_sharp_det.errors import UserError
from unet_sharp_det.evaluation import InstanceEvaluator, NucleiCOCOEvaluator, SemanticEvaluator
from unet_sharp_det.modeling.semantic_labels import SemanticLabels
from unet_sharp_det.report.plots import (
    IGNORED_COLOR,
    OUTCOME_COLORS,
    GridRow,
    grid_figure,
    plot_boxplots,
    plot_grid,
    plot_pruning,
    truth_picture,
)

DATASET = "test_plots"
SIZE = (20, 30)
TRUTH = {1: (0, 0, 10, 10), 2: (10, 0, 30, 10), 3: None}
# The part of image 1's and 2's nucleus that each run finds: IoU (100, 50, 100), (10, 40, 100).
GOOD = {1: (0, 0, 10, 10), 2: (10, 0, 20, 10), 3: None}
POOR = {1: (0, 0, 10, 1), 2: (10, 0, 30, 4), 3: None}
TP, FP, FN = OUTCOME_COLORS.values()


def mask_of(box):
    mask = np.zeros(SIZE, dtype=bool)
    if box is not None:
        x0, y0, x1, y1 = box
        mask[y0:y1, x0:x1] = True
    return mask


def annotation_of(number, image_id, box):
    x0, y0, x1, y1 = box
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
        "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
    }


@pytest.fixture(autouse=True)
def dataset(tmp_path):
    images = [
        {"id": i, "file_name": f"cell_{i}.png", "height": SIZE[0], "width": SIZE[1]} for i in TRUTH
    ]
    for i, image in enumerate(images):
        cv2.imwrite(str(tmp_path / image["file_name"]), np.full((*SIZE, 3), 100 + i, np.uint8))
    annotations = [annotation_of(i, i, box) for i, box in TRUTH.items() if box]
    categories = [{"id": 1, "name": "nucleus"}]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "gt.json").write_text(json.dumps(coco))
    register_coco_nuclei(DATASET, tmp_path / "gt.json", tmp_path, ["nucleus"])
    DatasetCatalog.get(DATASET)
    yield DATASET
    DatasetCatalog.remove(DATASET)
    MetadataCatalog.remove(DATASET)


def write_run(evaluators, outputs):
    for evaluator in evaluators:
        evaluator.reset()
        for image_id, output in outputs.items():
            record = {"image_id": image_id, "file_name": f"cell_{image_id}.png"}
            evaluator.process([record], [output])
        evaluator.evaluate()


@pytest.fixture
def semantic_run(tmp_path):
    """A function (name, boxes by image id) that evaluates masks; returns the run's folder."""

    def write(name, boxes):
        folder = str(tmp_path / name / "inference")
        outputs = {
            i: {"sem_seg": torch.from_numpy(mask_of(box)[None]).float()} for i, box in boxes.items()
        }
        write_run([SemanticEvaluator(DATASET, SemanticLabels(), output_dir=folder)], outputs)
        return tmp_path / name

    return write


@pytest.fixture
def instance_run(tmp_path):
    """The same for instances, with a second one of a low score over the whole image."""

    def write(name, boxes):
        classes, folder = (NucleiCOCOEvaluator, InstanceEvaluator), tmp_path / name / "inference"
        outputs = {i: {"instances": instances_of(box)} for i, box in boxes.items()}
        write_run([each(DATASET, output_dir=str(folder)) for each in classes], outputs)
        return tmp_path / name

    return write


def instances_of(box):
    masks = [mask_of((0, 0, 30, 20)), *([mask_of(box)] if box else [])]
    found = Instances(SIZE)
    found.pred_boxes = Boxes(torch.tensor([[0.0, 0, 30, 20], *([box] if box else [])]))
    found.scores = torch.tensor([0.49, 0.5][: len(masks)])
    found.pred_classes = torch.zeros(len(masks), dtype=torch.int64)
    found.pred_masks = torch.tensor(np.array(masks))
    return found


def is_picture(path):
    picture = cv2.imread(str(path))
    return picture is not None and np.ptp(picture) > 100


class TestBoxplots:
    def lines(self, figure, y):
        """The x positions of the horizontal median lines at height y."""
        lines = [line.get_xydata() for line in figure.axes[0].lines]
        wide = [line for line in lines if len(line) == 2 and np.ptp(line[:, 0]) > 0.4]
        return [line[:, 0].mean() for line in wide if np.allclose(line[:, 1], y)]

    def test_a_box_per_run_with_its_median(self, semantic_run, instance_run, tmp_path):
        runs = [semantic_run("good", GOOD), instance_run("poor", POOR)]
        figure, table = plot_boxplots(runs, tmp_path / "f.png", labels=["A", "B"])
        axes = figure.axes[0]
        assert len(axes.patches) == 2
        assert [label.get_text() for label in axes.get_xticklabels()] == ["A", "B"]
        assert self.lines(figure, 100) == [1.0]
        assert self.lines(figure, 40) == [2.0]
        boxes = [patch.get_path().get_extents() for patch in axes.patches]
        assert [(box.y0, box.y1) for box in boxes] == [(75, 100), (25, 70)]
        rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in table.splitlines()]
        assert rows[2] == ["A", "3", "100.00", "83.33", "75.00", "100.00"]
        assert rows[3] == ["B", "3", "40.00", "50.00", "25.00", "70.00"]
        assert is_picture(tmp_path / "f.png")

    def test_dice(self, semantic_run, tmp_path):
        run = semantic_run("poor", POOR)
        figure, table = plot_boxplots([run], tmp_path / "f.pdf", metric="Dice")
        assert len(self.lines(figure, 100 * 160 / 280)) == 1
        assert "| poor | 3 | 57.14 |" in table
        assert (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")

    def test_channels(self, tmp_path):
        folder = tmp_path / "run" / "inference"
        folder.mkdir(parents=True)
        rows = "image_id,channel,IoU\n1,a,10\n1,b,30\n2,a,50\n2,b,90\n"
        (folder / "semantic_per_image.csv").write_text(rows)
        for channel, median in ((None, "45.00"), ("b", "60.00")):
            table = plot_boxplots([tmp_path / "run"], tmp_path / "f.svg", channel=channel)[1]
            assert f"| run | 2 | {median} |" in table
        with pytest.raises(UserError, match="'c' is not known.*Available: a, b"):
            plot_boxplots([tmp_path / "run"], tmp_path / "f.svg", channel="c")

    def test_runs_of_the_same_name_are_told_apart(self, semantic_run, tmp_path):
        runs = [semantic_run("x/run", GOOD), semantic_run("y/run", POOR)]
        table = plot_boxplots(runs, tmp_path / "f.png")[1]
        assert all(f"| {run} |" in table for run in runs)

    def test_other_images(self, semantic_run, tmp_path):
        runs = [semantic_run("all", GOOD), semantic_run("some", {1: GOOD[1]})]
        message = r"some.*2 of 3 images are missing that other runs have: 2, 3\."
        with pytest.raises(UserError, match=message):
            plot_boxplots(runs, tmp_path / "f.png")
        assert not (tmp_path / "f.png").exists()

    def test_mistakes_in_arguments(self, semantic_run, tmp_path):
        run = semantic_run("run", GOOD)
        with pytest.raises(UserError, match="2 labels for 1 runs"):
            plot_boxplots([run], tmp_path / "f.png", labels=["a", "b"])
        with pytest.raises(UserError, match=r"'.gif' is not known.*\.png, \.pdf, \.svg"):
            plot_boxplots([run], tmp_path / "f.gif")
        with pytest.raises(UserError, match="none.*tools/train_net.py.*--eval-only"):
            plot_boxplots([tmp_path / "none"], tmp_path / "f.png")


def pictures(figure):
    """The arrays of a grid, row by row."""
    axes = [ax for part in figure.subfigs for ax in part.axes]
    columns = axes[0].get_subplotspec().get_gridspec().ncols
    arrays = [np.asarray(ax.get_images()[0].get_array()) for ax in axes]
    return [arrays[i : i + columns] for i in range(0, len(arrays), columns)]


def captions(figure):
    return [ax.get_xlabel() for part in figure.subfigs for ax in part.axes if ax.get_xlabel()]


def titles(figure):
    return [ax.get_title() for part in figure.subfigs for ax in part.axes if ax.get_title()]


def pixels_of(picture, color):
    return (picture == color).all(axis=2)


class TestGrid:
    def test_pixels_and_captions(self, semantic_run, instance_run, tmp_path):
        wide = {1: (0, 0, 12, 5), 2: TRUTH[2], 3: None}
        runs = [semantic_run("good", GOOD), instance_run("wide", wide)]
        output = tmp_path / "f.png"
        figure = plot_grid(runs, DATASET, output, images=["1", "2"], labels=["A", "B"])
        first, second = pictures(figure)
        assert (first[0] == 100).all()
        np.testing.assert_array_equal(pixels_of(first[1], 255), mask_of(TRUTH[1]))
        np.testing.assert_array_equal(pixels_of(first[2], TP), mask_of(TRUTH[1]))
        np.testing.assert_array_equal(pixels_of(first[3], TP), mask_of((0, 0, 10, 5)))
        np.testing.assert_array_equal(pixels_of(first[3], FP), mask_of((10, 0, 12, 5)))
        np.testing.assert_array_equal(pixels_of(first[3], FN), mask_of((0, 5, 10, 10)))
        np.testing.assert_array_equal(pixels_of(second[2], FN), mask_of((20, 0, 30, 10)))
        assert not pixels_of(second[3], FP).any()
        assert titles(figure) == ["image", "ground truth", "A", "B"]
        iou = f"IoU {100 * 50 / 110:.1f} %"
        expected = ["1: cell_1", "IoU 100.0 %", iou, "2: cell_2", "IoU 50.0 %", "IoU 100.0 %"]
        assert captions(figure) == expected
        legend = figure.subfigs[1].legends[0]
        assert [text.get_text() for text in legend.get_texts()] == list(OUTCOME_COLORS)
        assert is_picture(output)

    def test_it_shows_what_the_evaluator_of_instances_compared(self, instance_run, tmp_path):
        """Without crowd regions, doubles and objects that lie in them; they are gray."""
        crowd = (0, 10, 30, 20)
        gt = json.loads((tmp_path / "gt.json").read_text())
        gt["annotations"].append({**annotation_of(9, 1, crowd), "iscrowd": 1})
        (tmp_path / "gt.json").write_text(json.dumps(gt))
        boxes = [TRUTH[1], (0, 2, 10, 12), (20, 9, 30, 20)]
        found = Instances(SIZE, scores=torch.tensor([0.9, 0.8, 0.7]))
        found.pred_boxes = Boxes(torch.tensor(boxes).float())
        found.pred_classes = torch.zeros(3, dtype=torch.int64)
        found.pred_masks = torch.tensor(np.array([mask_of(box) for box in boxes]))
        folder = tmp_path / "run" / "inference"
        write_run([InstanceEvaluator(DATASET, output_dir=str(folder))], {1: {"instances": found}})
        write_run([NucleiCOCOEvaluator(DATASET, output_dir=str(folder))], {1: {"instances": found}})
        figure = plot_grid([tmp_path / "run"], DATASET, tmp_path / "f.png", images=["cell_1"])
        (row,) = pictures(figure)
        np.testing.assert_array_equal(pixels_of(row[2], TP), mask_of(TRUTH[1]))
        assert not pixels_of(row[2], FP).any()
        np.testing.assert_array_equal(pixels_of(row[2], IGNORED_COLOR), mask_of(crowd))
        assert captions(figure) == ["1: cell_1", "IoU 100.0 %"]
        with open(folder / "instances_per_image.csv", newline="") as file:
            assert float(next(csv.DictReader(file))["IoU"]) == 100

    def test_largest_spread_first(self, semantic_run, tmp_path):
        """IoU of the runs differs by 90 on image 1, by 10 on image 2, by 0 on image 3."""
        runs = [semantic_run("good", GOOD), semantic_run("poor", POOR)]
        figure = plot_grid(runs, DATASET, tmp_path / "f.png", images=["2"])
        assert captions(figure)[::3] == ["1: cell_1", "2: cell_2"]
        assert len(pictures(plot_grid(runs, DATASET, tmp_path / "f.png"))) == 3

    @pytest.mark.parametrize("kind", ["semantic_run", "instance_run"])
    def test_worst_of_a_single_run(self, request, tmp_path, kind):
        run = request.getfixturevalue(kind)("good", GOOD)
        figure = plot_grid([run], DATASET, tmp_path / "f.png", images=["1"])
        assert captions(figure) == ["2: cell_2", "IoU 50.0 %"]

    def test_images_by_file_name(self, semantic_run, tmp_path):
        run = semantic_run("good", GOOD)
        figure = plot_grid([run], DATASET, tmp_path / "f.png", images=["cell_3"])
        assert captions(figure) == ["3: cell_3", "IoU 100.0 %"]
        with pytest.raises(UserError, match="Did you mean 'cell_3'"):
            plot_grid([run], DATASET, tmp_path / "f.png", images=["cell_33", "1"])
        with pytest.raises(UserError, match="--images.*1 or more"):
            plot_grid([run], DATASET, tmp_path / "f.png", images=["0"])

    def test_ignored_pixels_are_gray_and_in_the_legend(self):
        truth, valid = mask_of((0, 0, 10, 10)), ~mask_of((0, 0, 10, 5))
        image = np.zeros((*SIZE, 3), np.uint8)
        found = mask_of((0, 5, 10, 10))
        row = GridRow("a name that is too long for its column", image, truth, valid, [found])
        figure = grid_figure([row], ["run"])
        outcome = pictures(figure)[0][2]
        np.testing.assert_array_equal(pixels_of(outcome, IGNORED_COLOR), ~valid)
        np.testing.assert_array_equal(pixels_of(outcome, TP), truth & valid)
        np.testing.assert_array_equal(pixels_of(truth_picture(row), IGNORED_COLOR), ~valid)
        names = [text.get_text() for text in figure.subfigs[1].legends[0].get_texts()]
        assert names == [*OUTCOME_COLORS, "ignored"]
        assert captions(figure) == ["a name that is too l...", "IoU 100.0 %"]

    def test_channels(self, tmp_path):
        folder = str(tmp_path / "run" / "inference")
        found = torch.from_numpy(np.stack([mask_of(GOOD[1]), mask_of((0, 0, 30, 20))])).float()
        evaluator = SemanticEvaluator(DATASET, SemanticLabels(2), output_dir=folder)
        write_run([evaluator], {1: {"sem_seg": found}})
        for channel, right, wrong in ((None, GOOD[1], None), ("2", None, (0, 0, 30, 20))):
            figure = plot_grid([tmp_path / "run"], DATASET, tmp_path / "f.png", channel=channel)
            np.testing.assert_array_equal(pixels_of(pictures(figure)[0][2], TP), mask_of(right))
            np.testing.assert_array_equal(pixels_of(pictures(figure)[0][2], FP), mask_of(wrong))

    def test_missing_and_malformed_predictions(self, semantic_run, tmp_path):
        run = semantic_run("good", GOOD)
        path = run / "inference" / "semantic_predictions.json"
        cases = {"[": "is not JSON", "{}": "is no list, but dict", '[{"image_id": 1}]': "lacks"}
        for content, message in cases.items():
            path.write_text(content)
            with pytest.raises(UserError, match=f"semantic_predictions.json.*{message}"):
                plot_grid([run], DATASET, tmp_path / "f.png")
        path.unlink()
        with pytest.raises(UserError, match="no file .*semantic_predictions.json.*--eval-only"):
            plot_grid([run], DATASET, tmp_path / "f.png")

    def test_another_data_set(self, semantic_run, tmp_path):
        run = semantic_run("good", GOOD)
        with pytest.raises(UserError, match="Did you mean 'test_plots'"):
            plot_grid([run], "test_plot", tmp_path / "f.png")
        records = DatasetCatalog.get(DATASET)[:2]
        DatasetCatalog.register("test_plots_part", lambda: records)
        try:
            with pytest.raises(UserError, match="has no image 3 .1 unknown of 3"):
                plot_grid([run], "test_plots_part", tmp_path / "f.png")
        finally:
            DatasetCatalog.remove("test_plots_part")


LEVELS = [
    {"level": 1, "params": 1_250_000, "gmac": 1.0, "images_per_s": 40.0, "iou": 70.5},
    {"level": 2, "params": 9_000_000, "gmac": 9.0, "images_per_s": 10.25, "iou": None},
]


class TestPruning:
    def write(self, path, **content):
        whole = {"levels": LEVELS, "title": "UNet#", "machine": "CPU", **content}
        path.write_text(json.dumps(whole))
        return path

    def test_a_panel_per_file(self, tmp_path):
        files = [self.write(tmp_path / "a.json"), self.write(tmp_path / "b.json", title="second")]
        figure = plot_pruning(files, tmp_path / "f.png")
        assert [part.get_suptitle() for part in figure.subfigs] == ["UNet# (CPU)", "second (CPU)"]
        size, speed, iou = figure.subfigs[0].axes
        names = [ax.get_title() for ax in (size, speed, iou)]
        assert names == ["parameters (M)", "images / s", "IoU (%)"]
        assert [bar.get_height() for bar in size.patches] == pytest.approx([1.25, 9])
        assert [bar.get_height() for bar in speed.patches] == [40, 10.25]
        assert [text.get_text() for text in size.texts] == ["1.25", "9.00"]
        assert [text.get_text() for text in iou.texts] == ["70.50", "n/a"]
        assert [label.get_text() for label in iou.get_xticklabels()] == ["L1", "L2"]
        assert is_picture(tmp_path / "f.png")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"levels": []}, "'levels' must be a list"),
            ({"levels": [{"level": 1}]}, "'params' of a level is no number"),
            ({"levels": [{**LEVELS[0], "images_per_s": None}]}, "'images_per_s'"),
            ({"levels": [3]}, "'level' of a level is no number: 3"),
        ],
    )
    def test_malformed_file(self, tmp_path, content, message):
        path = self.write(tmp_path / "a.json", **content)
        with pytest.raises(UserError, match=f"a.json: {message}.*benchmark.py pruning"):
            plot_pruning([path], tmp_path / "f.png")

    def test_missing_file(self, tmp_path):
        with pytest.raises(UserError, match="no file .*none.json.*benchmark.py pruning"):
            plot_pruning([tmp_path / "none.json"], tmp_path / "f.png")


@pytest.fixture(scope="module")
def tool(repository):
    path = repository / "tools" / "plot_results.py"
    spec = importlib.util.spec_from_file_location("plot_results", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestTool:
    def test_commands_write_their_figures(self, tool, semantic_run, tmp_path, capsys):
        run = str(semantic_run("good", GOOD))
        pruned = str(TestPruning().write(tmp_path / "a.json"))
        commands = [
            ["boxplots", run, "--metric", "Dice", "--labels", "ours"],
            ["grid", run, "--dataset", DATASET, "--images", "cell_1", "2"],
            ["pruning", pruned],
        ]
        for command in commands:
            output = tmp_path / f"{command[0]}.png"
            assert tool.main([*command, "--output", str(output)]) == 0
            out = capsys.readouterr().out
            assert out.splitlines()[-1] == str(output)
            assert is_picture(output)
            assert ("| ours | 3 |" in out) == (command[0] == "boxplots")

    def test_a_missing_run_is_one_line(self, run_tool, tmp_path):
        output = ["--output", tmp_path / "f.png"]
        done = run_tool("tools/plot_results.py", "boxplots", tmp_path, *output)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {tmp_path}: neither semantic_per_image.csv")
        assert done.stderr.count("\n") == 1
