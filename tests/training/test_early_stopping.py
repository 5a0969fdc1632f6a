"""Trainings that stop early as a user runs them: in two processes, and a LazyConfig."""

import importlib.util
import json
import subprocess
import sys

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from stop_early_each_rank import config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unet_sharp_det.evaluation.record import EvaluationOptions, EvaluationRecord
from unet_sharp_det.training import NucleiTrainer, ValidationLoss, load_lazy_cfg

INSTANT = "configs/quick_schedules/unetsharp_cgm_instant_test.yaml"
LAZY = "configs/LazyConfigs/unetsharp_semantic.py"
LOSS = "validation/total_loss"


def validation_losses(folder):
    """By iteration, those of metrics.json."""
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    return {line["iteration"]: line[LOSS] for line in lines if LOSS in line}


def assert_first_checkpoint_knows_first_evaluation(folder):
    hooks = torch.load(folder / "model_0000000.pth")["trainer"]["hooks"]
    assert hooks["EarlyStopping"]["best_iter"] == 0
    assert hooks["BestCheckpointer"]["best_iter"] == 0


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
    assert_first_checkpoint_knows_first_evaluation(tmp_path)

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


def test_a_lazy_config_stops_and_stays_stopped(repository, register_part, tmp_path, caplog):
    path = repository / "tools" / "lazyconfig_train_net.py"
    spec = importlib.util.spec_from_file_location("lazyconfig_train_net", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    name = register_part("three", lambda counts: sorted(counts, key=counts.get)[:3])
    options = [
        f"train.output_dir={tmp_path}",
        "train.device=cpu",
        "train.amp.enabled=False",
        "train.max_iter=5",
        "train.eval_period=1",
        "train.checkpointer.period=1",
        f"train.best_metric={LOSS}",
        "train.early_stopping.patience=1",
        "train.early_stopping.min_delta=1000.0",
        "model.backbone.channels=[4,4,8,8,16]",
        "model.sem_seg_head.decoder.edge_channels=4",
        f"dataloader.train.dataset.names={name}",
        "dataloader.train.mapper.augmentations.1.crop_size=[64,64]",
        "dataloader.train.total_batch_size=2",
        "dataloader.train.num_workers=0",
        f"dataloader.test.dataset.names={name}",
        "dataloader.test.mapper.augmentations.1.factors=[0.5]",
        "dataloader.test.num_workers=0",
    ]
    caplog.set_level("INFO")
    for resume, message in ((False, "Stopped early at iteration 1"), (True, "had stopped early")):
        cfg = load_lazy_cfg(str(repository / LAZY), options)
        caplog.clear()
        tool.train(cfg, instantiate(cfg.model), resume=resume)
        assert message in caplog.text
        assert "Exception" not in caplog.text
        assert list(validation_losses(tmp_path)) == [1]
        assert torch.load(tmp_path / "model_final.pth")["iteration"] == 1
    assert_first_checkpoint_knows_first_evaluation(tmp_path)
    record = EvaluationRecord.read(tmp_path / "inference")
    assert record.dataset == name
    assert record.options == EvaluationOptions()
    for key in ("validation_loss", "best_metric", "early_stopping"):  # detectron2's has none.
        del cfg.train[key]
    model = torch.nn.Identity()
    built = tool.build_hooks(cfg, model, tool.SkipCheckpointer(model, str(tmp_path)))
    names = [type(hook).__name__ for hook in built]
    assert "EvalHook" in names
    assert "BestCheckpointer" not in names
