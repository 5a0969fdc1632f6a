"""A training that stops early in two processes, and the losses that it goes by."""

import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from two_processes import train_in_two_processes

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.training import NucleiTrainer, ValidationLoss

INSTANT = "configs/quick_schedules/unetsharp_cgm_instant_test.yaml"
LOSS = "validation/total_loss"
OPTIONS = [
    *("MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False", "INPUT.SCALE_TEST", "0.5"),
    *("SOLVER.MAX_ITER", "9", "SOLVER.CHECKPOINT_PERIOD", "1"),
    *("TEST.EVAL_PERIOD", "1", "TEST.BEST_METRIC", LOSS),
    *("TEST.EARLY_STOPPING.PATIENCE", "1", "TEST.EARLY_STOPPING.MIN_DELTA", "1000.0"),
]


def validation_losses(folder):
    """By iteration, those of metrics.json."""
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    return {line["iteration"]: line[LOSS] for line in lines if LOSS in line}


def test_two_processes_stop_together_with_the_loss_of_one(repository, register_part, tmp_path):
    name = register_part("three", lambda counts: sorted(counts, key=counts.get)[:3])
    options = [*OPTIONS, "DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", f"('{name}',)"]
    cfg = setup_cfg(str(repository / INSTANT), [*options, "OUTPUT_DIR", str(tmp_path)])
    first, second = train_in_two_processes(cfg)
    assert first["iteration"] == second["iteration"] == 1
    weights = {n: v for n, v in first["model"].items() if n.endswith((".weight", ".bias"))}
    assert all(torch.equal(value, second["model"][name]) for name, value in weights.items())
    assert (tmp_path / "model_best.pth").is_file()
    assert torch.load(tmp_path / "model_final.pth")["iteration"] == 1
    hooks = torch.load(tmp_path / "model_0000000.pth")["trainer"]["hooks"]
    assert hooks["EarlyStopping"]["best_iter"] == hooks["BestCheckpointer"]["best_iter"] == 0

    found = validation_losses(tmp_path)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert {event.step: event.value for event in events.Scalars(LOSS)} == pytest.approx(found)
    assert list(found) == [1]
    assert "validation/loss_sem_seg_cgm" in events.Tags()["scalars"]

    trainer = NucleiTrainer(cfg)
    trainer.resume_or_load(resume=True)
    loader = trainer.build_validation_loader(trainer.cfg, name)
    alone = ValidationLoss(trainer.model, {name: loader})()["validation"]["total_loss"]
    assert alone == pytest.approx(found[1], rel=1e-5)
    trainer.train()
    assert trainer.iter == 2
    assert list(validation_losses(tmp_path)) == [1]
