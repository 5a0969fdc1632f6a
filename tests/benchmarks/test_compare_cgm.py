"""The comparison with and without CGM: it is fair, its figures are counted right, it is written."""

import json

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from benchmarks import cgm
from benchmarks.__main__ import main
from unet_sharp_det.data.dsb2018_convert import convert_dsb2018
from unet_sharp_det.errors import ConfigError, DatasetError
from unet_sharp_det.training import NucleiTrainer

CONFIG = "configs/DSB2018-SemanticSegmentation/compact/unetsharp.yaml"
INSTANCE = "configs/quick_schedules/mask_rcnn_lite0_unetsharp_instant_test.yaml"
TINY = ("MODEL.UNET.CHANNELS", "[2, 2, 2, 2, 2]", "MODEL.SEM_SEG_HEAD.EDGE_CHANNELS", "2")
TINY += ("SOLVER.IMS_PER_BATCH", "2", "MODEL.DEVICE", "cpu")
TILE_PIXELS = 64 * 64


def rows(*counts):
    """The lines of a file of the evaluator: (IoU, true pixels, predicted pixels) of each image."""
    return "IoU,gt_pixels,pred_pixels\n" + "".join(f"{a},{b},{c}\n" for a, b, c in counts)


class TestFigures:
    def test_read(self, tmp_path):
        path = tmp_path / "images.csv"
        path.write_text(rows((100, 0, 0), (0, 0, 5), (0, 0, 1), (40.5, 9, 9), (0, 3, 0)))
        assert cgm.Figures.read(path) == cgm.Figures(6, 2.0, 2, 20.25, 1)

    @pytest.mark.parametrize("counts", [[(100, 0, 0)], [(50, 2, 1)]])
    def test_one_kind_of_tiles_is_no_comparison(self, tmp_path, counts):
        path = tmp_path / "images.csv"
        path.write_text(rows(*counts))
        with pytest.raises(DatasetError, match="needs both"):
            cgm.Figures.read(path)

    def test_mean(self):
        several = [cgm.Figures(0, 1, 2, 3, 4), cgm.Figures(2, 2, 2, 2, 2)]
        assert cgm.Figures.mean(several) == cgm.Figures(1, 1.5, 2, 2.5, 3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A converted data set: an image of each split, 64 x 128, with nuclei in its left half."""
    source = tmp_path_factory.mktemp("kaggle")
    for dsb_id in ("00000000aa", "00000005aa"):  # train, val
        pixels = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
        mask = np.zeros((64, 128), np.uint8)
        mask[5:30, 5:30] = 255
        for kind, name, image in (("images", dsb_id, pixels), ("masks", "one", mask)):
            path = source / dsb_id / kind / f"{name}.png"
            path.parent.mkdir(parents=True)
            assert cv2.imwrite(str(path), image)
    root = tmp_path_factory.mktemp("data")
    convert_dsb2018(source, root / "dsb2018", workers=1)
    yield root
    for name in ("tiles_train", "tiles_val"):
        DatasetCatalog.pop(name)
        MetadataCatalog.pop(name)


class Recorder(NucleiTrainer):
    """In place of training: what it would see; ends with "nuclei everywhere, CGM says none"."""

    runs = []

    def train(self):
        model, batches = self.model, []
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        for _ in range(4):
            batches += [record["image"] for record in next(self._trainer._data_loader_iter)]
            torch.rand(3 if model.sem_seg_head.decoder.cgm else 1)  # Dropout draws, too.
        self.runs.append((weights, batches))
        for name, parameter in model.named_parameters():
            if ".heads." in name and name.endswith("bias"):
                torch.nn.init.constant_(parameter, 100)
        for module in model.sem_seg_head.decoder.cgm.values():
            torch.nn.init.constant_(module.classifier[-1].bias[:1], 100)


@pytest.fixture(scope="module")
def comparison(repository, data, tmp_path_factory):
    """The runs of two seeds, the table, and the JSON file's content."""
    output = tmp_path_factory.mktemp("output")
    cfg = cgm.cgm_config(str(repository / CONFIG), 4, TINY)
    Recorder.runs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cgm, "NucleiTrainer", Recorder)
        table = cgm.compare_cgm(cfg, data, output, [3, 5])
    return Recorder.runs, table, json.loads((output / "cgm.json").read_text())


class TestComparison:
    def test_equal_weights_but_for_cgm(self, comparison):
        plain, guided = comparison[0][0][0], comparison[0][1][0]
        assert all(torch.equal(value, guided[name]) for name, value in plain.items())
        assert any(".cgm." in name for name in guided)
        assert not any(".cgm." in name for name in plain)

    def test_equal_images(self, comparison):
        plain, guided = comparison[0][0][1], comparison[0][1][1]
        assert len(plain) == len(guided) == 8
        assert all(torch.equal(a, b) for a, b in zip(plain, guided, strict=True))

    def test_seeds_differ(self, comparison):
        first, second = comparison[0][0], comparison[0][2]
        name = "backbone.stages.0.0.0.weight"
        assert not torch.equal(first[0][name], second[0][name])
        assert not all(torch.equal(a, b) for a, b in zip(first[1], second[1], strict=True))

    def test_figures(self, comparison):
        everything = {
            "false_positive_pixels": TILE_PIXELS,
            "false_positives_per_tile": TILE_PIXELS,
            "false_positive_tiles": 1,
            "iou": pytest.approx(100 * 25 * 25 / TILE_PIXELS, abs=1e-3),
            "blank_tiles": 0,
        }
        nothing = {**dict.fromkeys(everything, 0), "blank_tiles": 1}
        figures = {cgm.WITHOUT: everything, cgm.WITH: nothing, cgm.GATE_OFF: everything}
        content = comparison[2]
        assert content["mean"] == figures
        assert content["seeds"] == {name: {"3": f, "5": f} for name, f in figures.items()}

    def test_table(self, comparison):
        lines = [line.split("|")[1:-1] for line in comparison[1].splitlines() if line[:1] == "|"]
        cells = [[cell.strip() for cell in line] for line in lines]
        assert cells[0] == ["", "seed", *cgm.COLUMNS]
        assert [line[1] for line in cells[2:]] == ["3", "5", "mean"] * 3
        assert cells[2] == ["without CGM", "3", "4096", "4096.00", "1", "15.26", "0"]
        assert cells[7] == ["**with CGM**", "mean", "0", "0.00", "0", "0.00", "1"]

    def test_tiles(self, comparison):
        tiles = comparison[2]["tiles"]
        assert (tiles["train"]["tiles"], tiles["train"]["empty"]) == (3, 2)
        assert (tiles["train"]["kept"], tiles["train"]["kept_empty"]) == (2, 1)
        assert (tiles["val"]["kept"], tiles["val"]["kept_empty"]) == (2, 1)


def test_of_another_head(repository):
    with pytest.raises(ConfigError, match="UNetSharpHead"):
        cgm.cgm_config(str(repository / INSTANCE), 4)


def test_without_data(repository, tmp_path):
    options = ["--config-file", repository / CONFIG, "--data", tmp_path, "--output", tmp_path]
    with pytest.raises(DatasetError, match=r"prepare_dsb2018\.py"):
        main(["cgm", *map(str, options)])
