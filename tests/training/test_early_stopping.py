"""A training that stops early in two processes, and the losses that it goes by."""

import json
import subprocess
import sys

import pytest
import torch
from detectron2.data import MetadataCatalog
from stop_early_each_rank import config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unet_sharp_det.training import NucleiTrainer, ValidationLoss

INSTANT = "configs/quick_schedules/unetsharp_cgm_instant_test.yaml"
LOSS = "validation/total_loss"


def validation_losses(folder):
    """By iteration, those of metrics.json."""
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    return {line["iteration"]: line[LOSS] for line in lines if LOSS in line}


def test_two_processes_stop_together_with_the_loss_of_one(
    environment, repository, register_part, tmp_path
):
    name = register_part("three", lambda counts: sorted(counts, key=counts.get)[:3])
    data = MetadataCatalog.get(name)
    arguments = [str(repository / INSTANT), data.json_file, data.image_root, str(tmp_path)]
    script = repository / "tests" / "training" / "stop_early_each_rank.py"
    command = [sys.executable, str(script), *arguments]
    subprocess.run(command, env=environment, check=True, timeout=300)
    for rank in range(2):
        assert json.loads((tmp_path / f"rank{rank}.json").read_text()) == {"iteration": 1}
    assert (tmp_path / "model_best.pth").is_file()
    assert torch.load(tmp_path / "model_final.pth")["iteration"] == 1
    hooks = torch.load(tmp_path / "model_0000000.pth")["trainer"]["hooks"]
    assert hooks["EarlyStopping"]["best_iter"] == hooks["BestCheckpointer"]["best_iter"] == 0

    found = validation_losses(tmp_path)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert {event.step: event.value for event in events.Scalars(LOSS)} == pytest.approx(found)
    assert list(found) == [1]
    assert "validation/loss_sem_seg_cgm" in events.Tags()["scalars"]

    trainer = NucleiTrainer(config(*arguments))
    trainer.resume_or_load(resume=True)
    loader = trainer.build_validation_loader(trainer.cfg, "three_images")
    alone = ValidationLoss(trainer.model, {"three_images": loader})()["validation"]["total_loss"]
    assert alone == pytest.approx(found[1], rel=1e-5)
    trainer.train()
    assert trainer.iter == 2
    assert list(validation_losses(tmp_path)) == [1]
