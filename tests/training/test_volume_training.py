"""Training on generated volumes, as a user runs it: evaluated, resumed bit for bit, pruned."""

import json

import numpy as np
import pytest
import torch
from run_files import files
from scans import write_scan

from unet_sharp_det.batch import predict_scans
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data.volume_catalog import register_volumes
from unet_sharp_det.errors import UserError
from unet_sharp_det.modeling.pruning import prune_config
from unet_sharp_det.prediction import VolumePredictor
from unet_sharp_det.training import NucleiTrainer, read_config
from unet_sharp_det.volumes import read_labels


@pytest.fixture
def dataset(tmp_path):
    """Registered scans of a block: two to train on, one to test."""
    labels = np.zeros((10, 20, 22), np.uint8)
    labels[3:7, 5:12, 6:14] = 1
    return register(labels, tmp_path)


@pytest.fixture
def touching(tmp_path):
    """The same of two numbered blocks that touch."""
    labels = np.zeros((10, 20, 22), np.uint16)
    labels[1:9, 2:12, 2:11], labels[1:9, 2:12, 11:20] = 300, 1
    return register(labels, tmp_path)


def register(labels, tmp_path):
    splits = {}
    for name, split in (("0", "train"), ("1", "train"), ("2", "test")):
        noise = np.random.default_rng(int(name)).normal(0, 10, labels.shape)
        array = (labels > 0) * 100 + (labels > 1) * 100 + noise
        write_scan(tmp_path / f"{name}.nii.gz", array.astype(np.int16))
        write_scan(tmp_path / f"{name}_label.nii.gz", labels)
        case = {"id": name, "image": [f"{name}.nii.gz"], "label": f"{name}_label.nii.gz"}
        splits.setdefault(split, []).append(case)
    content = {"modality": ["CT"], "labels": {"0": "background", "1": "block"}, "val": []}
    (tmp_path / "dataset.json").write_text(json.dumps({**content, **splits}))
    register_volumes("generated_volumes", tmp_path / "dataset.json")
    return "generated_volumes"


def config(dataset, folder, *options):
    cfg = setup_cfg("Volumes/compact/nuclei_vnetsharp.yaml", ["MODEL.DEVICE", "cpu", *options])
    cfg.OUTPUT_DIR = str(folder)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (f"{dataset}_train",), (f"{dataset}_test",)
    cfg.MODEL.UNET.CHANNELS = [4, 4]
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["res0", "res1"]
    cfg.MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION = "all"
    cfg.INPUT.VOLUME.PATCH_SIZE = [8, 16, 16]
    cfg.DATALOADER.REPLAYABLE = True
    cfg.SOLVER.MAX_ITER = 4
    cfg.SOLVER.CHECKPOINT_PERIOD = 2
    return cfg


def train(cfg, resume=False):
    torch.manual_seed(0)
    trainer = NucleiTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def test_a_resumed_training_goes_on_bit_for_bit(dataset, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    results = train(config(dataset, whole))._last_eval_results["sem_seg"]
    assert {"Dice_pooled", "HD95_image_mean", "surface_Dice_image_mean"} <= set(results)
    assert (whole / "inference" / "semantic_per_image.csv").is_file()
    stopped.mkdir()
    (whole / "model_0000001.pth").rename(stopped / "model_0000001.pth")
    (stopped / "last_checkpoint").write_text("model_0000001.pth")
    assert train(config(dataset, stopped), resume=True).start_iter == 2
    first, second = (torch.load(path / "model_final.pth")["model"] for path in (whole, stopped))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_evaluated_from_its_checkpoint_and_pruned(dataset, tmp_path):
    cfg = config(dataset, tmp_path, "INPUT.VOLUME.SPACING", "[2.0, 1.0, 1.0]")
    train(cfg)
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    model = NucleiTrainer.build_trained_model(cfg)
    dice = NucleiTrainer.test(cfg, model)["sem_seg"]["Dice_pooled"]
    (tmp_path / "config.yaml").write_text(cfg.dump())
    predict = VolumePredictor.from_checkpoint(cfg.MODEL.WEIGHTS, device="cpu")
    predict_scans(predict, [tmp_path / "2.nii.gz"], tmp_path / "predicted")
    written = read_labels(tmp_path / "predicted" / "2_labels.nii.gz").array
    truth = read_labels(tmp_path / "2_label.nii.gz").array
    both = np.count_nonzero(written & truth)
    assert dice == pytest.approx(200 * both / (written.sum() + truth.sum()))
    assert both > 0
    pruned = prune_config(cfg, 1)
    model = NucleiTrainer.build_trained_model(pruned)
    assert NucleiTrainer.test(pruned, model)["sem_seg"]


def test_objects_that_touch_are_told_apart(touching, tmp_path):
    cfg = config(touching, tmp_path, "MODEL.SEM_SEG_HEAD.TARGET", "distance")
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2  # No voxel lies deeper than two bands.
    cfg.INPUT.VOLUME.PATCH_SIZE, cfg.INPUT.VOLUME.AUGMENT_PROB = [10, 20, 22], 0.0
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR = 160, 0.02
    results = train(cfg)._last_eval_results
    assert results["instances"]["F1_50_pooled"] == 100
    assert results["sem_seg"]["Dice_pooled"] > 90
    assert {"instance_metrics.json", "evaluation.json"} <= files(tmp_path / "inference")

    (tmp_path / "config.yaml").write_text(cfg.dump())
    predict = VolumePredictor.from_checkpoint(tmp_path / "model_final.pth", device="cpu")
    predict_scans(predict, [tmp_path / "2.nii.gz"], tmp_path / "predicted")
    found = read_labels(tmp_path / "predicted" / "2_labels.nii.gz").array
    assert sorted(np.unique(found)) == [0, 1, 2]
    with pytest.raises(UserError, match="--object-distance: this model finds objects"):
        predict_scans(predict, [tmp_path / "2.nii.gz"], tmp_path / "else", object_distance=5)


def test_a_lazy_config_trains_and_evaluates(dataset, tmp_path, repository):
    options = [
        *(f"train.output_dir={tmp_path}", "train.device=cpu", "train.amp.enabled=False"),
        *(
            "train.max_iter=1",
            "train.seed=0",
            "train.replayable=True",
            "model.patch_size=[8,16,16]",
        ),
        *("model.backbone.channels=[4,4]", "model.sem_seg_head.in_features=[res0,res1]"),
        *(f"dataloader.{part}.num_workers=0" for part in ("train", "test")),
        *(f"dataloader.{part}.dataset.names={dataset}_{part}" for part in ("train", "test")),
        "dataloader.train.total_batch_size=2",
    ]
    file = repository / "configs" / "LazyConfigs" / "vnetsharp_volumes.py"
    cfg, trainer_class = read_config(str(file), options)
    trainer = trainer_class(cfg)
    trainer.train()
    assert "surface_Dice_image_mean/block+2" in trainer._last_eval_results["sem_seg"]
    assert (tmp_path / "inference" / "slices" / "2.png").is_file()
