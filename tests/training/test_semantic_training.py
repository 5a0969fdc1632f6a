"""Semantic training as a user runs it: it learns, is pruned, agrees over workers, tells errors."""

import json

import pytest
import torch

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.training import NucleiTrainer

INSTANT = "configs/quick_schedules/unetsharp_cgm_instant_test.yaml"
COMPACT = "configs/DSB2018-SemanticSegmentation/compact/unetsharp.yaml"


@pytest.fixture
def one_image(register_part):
    """A registered data set of the sample image with the most nuclei."""
    return register_part("one_image", lambda counts: [max(counts, key=counts.get)])


def test_overfits_an_image(repository, one_image, tmp_path):
    cfg = setup_cfg(str(repository / COMPACT), ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path)])
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (one_image,)
    cfg.MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION = "all"
    cfg.MODEL.UNET.CHANNELS = [8, 8, 16, 16, 32]
    cfg.MODEL.SEM_SEG_HEAD.EDGE_CHANNELS = 8
    cfg.INPUT.COLOR.PROB = 0.0
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.INPUT.CROP.SIZE = [64, 64]
    cfg.SOLVER.MAX_ITER = 60
    cfg.SOLVER.BASE_LR = 0.02
    cfg.SOLVER.AMP.ENABLED = False
    torch.manual_seed(0)
    trainer = NucleiTrainer(cfg)
    trainer.train()
    assert trainer._last_eval_results["sem_seg"]["IoU_image_mean"] > 70
    assert (tmp_path / "model_best.pth").is_file()


def test_trained_evaluated_and_pruned(run_tool, repository, tmp_path):
    options = ["--config-file", repository / INSTANT]
    done = run_tool("tools/train_net.py", *options, "OUTPUT_DIR", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads((tmp_path / "inference" / "semantic_metrics.json").read_text())
    assert set(metrics["metrics"]) >= {"IoU_image_mean", "Dice_pooled"}

    options += ["--eval-only", "MODEL.WEIGHTS", tmp_path / "model_final.pth"]
    options += ["OUTPUT_DIR", tmp_path, "TEST.PRUNE_TO_LEVEL"]
    config = (tmp_path / "config.yaml").read_text()
    assert "\n  DIAMETER: 14.8\n" in config  # of the sample's training
    done = run_tool("tools/train_net.py", *options, "2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "L2" / "inference" / "semantic_per_image.csv").is_file()
    assert (tmp_path / "config.yaml").read_text() == config

    done = run_tool("tools/train_net.py", *options, "5")
    assert done.returncode == 2
    assert "Give one of 1 to 4" in done.stderr
