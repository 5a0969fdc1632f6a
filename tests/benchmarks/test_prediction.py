"""The benchmark of prediction: its table, what it compares, and its mistakes."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from benchmarks import prediction
from benchmarks.prediction import (
    DEFAULT,
    Workload,
    agreement,
    compare_predictors,
    read_images,
    ready_and_peak,
)
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import DatasetError, UserError
from unet_sharp_det.masks.instance_maps import InstanceMap

SEMANTIC = "configs/quick_schedules/unetsharp_cgm_instant_test.yaml"


@pytest.fixture(scope="module")
def cfg(repository, tmp_path_factory):
    """A tiny semantic network with weights of its own."""
    cfg = setup_cfg(str(repository / SEMANTIC), ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    torch.manual_seed(0)
    model = build_model(cfg)
    cfg.MODEL.WEIGHTS = str(tmp_path_factory.mktemp("weights") / "model.pth")
    torch.save({"model": model.state_dict()}, cfg.MODEL.WEIGHTS)
    return cfg


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(3)]


def test_ratios_are_to_the_default_predictor(cfg, images, monkeypatch):
    def take_turns(steps, repeats):
        assert repeats == 7
        for step in steps.values():
            step()
        return {name: 6.0 if name == DEFAULT else 2.0 for name in steps}

    monkeypatch.setattr(prediction, "take_turns", take_turns)
    monkeypatch.setattr(prediction, "in_fresh_process", lambda *arguments: (1.25, 100.0))
    out = compare_predictors(cfg, images, 2, 7, names=["Predictor"])
    lines = [line for line in out.splitlines() if line.startswith("|")][2:]
    rows = {c[1].strip(): [float(x) for x in c[2:-1]] for c in (r.split("|") for r in lines)}
    assert list(rows) == [DEFAULT, "Predictor"]
    assert rows[DEFAULT][:4] == [0.5, 1.0, 1.2, 100.0]
    assert rows["Predictor"][:2] == [1.5, 3.0]
    assert rows["Predictor"][4] > 0.99
    assert rows["Predictor"][5] < 1e-3


def test_memory_and_start(cfg, images):
    threads = torch.get_num_threads()
    seconds, peak = ready_and_peak("Predictor", Workload(cfg, images, 2), threads)
    assert 0 < seconds < 60
    assert 0 <= peak < 2000


def test_unknown_variant(cfg, images):
    with pytest.raises(UserError, match="--variants: 'Predicter' is not known.*'Predictor'"):
        compare_predictors(cfg, images, 1, 1, names=["Predicter"])


def test_agreement():
    labels = np.zeros((20, 20), np.int32)
    labels[:10, :10], labels[12:, 12:] = 1, 2
    moved = np.zeros_like(labels)
    moved[:10, :10], moved[8:16, 12:] = 2, 1
    a = InstanceMap(labels, np.array([0.9, 0.8]))
    assert agreement([a], [a]) == (1.0, 0.0)
    share, difference = agreement([a], [InstanceMap(moved, np.array([0.7, 0.6]))])
    assert share == 0.5
    assert difference == pytest.approx(0.3)
    empty = InstanceMap.empty((20, 20))
    assert agreement([empty], [empty]) == (1.0, 0.0)
    assert agreement([a], [empty]) == (0.0, 0.0)


class TestImages:
    def test_of_the_size_alone(self, tmp_path):
        for number, side in enumerate((32, 48, 32, 32)):
            Image.fromarray(np.full((side, side), number, np.uint8)).save(
                tmp_path / f"{number}.png"
            )
        (tmp_path / "notes.txt").write_text("no image")
        images = read_images(tmp_path, 32, 2)
        assert [image[0, 0, 0] for image in images] == [0, 2]
        assert images[0].shape == (32, 32, 3)
        with pytest.raises(DatasetError, match="no image of 64 x 64 pixels.*32 x 32, 48 x 48"):
            read_images(tmp_path, 64, 2)

    def test_no_folder(self, tmp_path):
        with pytest.raises(DatasetError, match="no folder .*missing"):
            read_images(tmp_path / "missing", 64, 2)
