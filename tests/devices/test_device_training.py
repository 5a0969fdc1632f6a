"""Trainings on a device: each precision, resuming, torchrun, one process of a distributed one."""

import os
import subprocess
import sys
from collections import Counter

import pytest
import torch
import torch.distributed as dist
from detectron2.modeling import build_backbone
from sample_parts import part_register
from torch import nn

from unet_sharp_det.training import NucleiTrainer


@pytest.fixture
def small_images(converted_sample, tmp_path):
    """The name of a data set of four images."""
    register = part_register(converted_sample, tmp_path)
    return register("four_images", lambda counts: [i for i, _ in Counter(counts).most_common(4)])


@pytest.fixture
def group(device, tmp_path, monkeypatch):
    """A process group of this process alone, which needs no network."""
    backend = "nccl" if device == "cuda" else "gloo"
    monkeypatch.setenv(f"{backend.upper()}_SOCKET_IFNAME", "lo")
    dist.init_process_group(backend, init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def train(cfg, resume=False):
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    torch.manual_seed(0)
    trainer = NucleiTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    assert trainer.start_iter == (2 if resume else 0)
    trainer.train()
    return trainer, nn.utils.parameters_to_vector(trainer.model.parameters())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_resumed_training_ends_as_one_that_was_not_stopped(
    config, device, small_images, tmp_path, precision
):
    if device == "cpu" and precision != "fp32":
        pytest.skip("not every CPU has it")
    cfg = config("detector", "MODEL.DEVICE", device, "SEED", 1, "DATALOADER.REPLAYABLE", True)
    cfg.SOLVER.AMP.ENABLED = precision != "fp32"
    cfg.SOLVER.AMP.PRECISION = precision.replace("fp32", "fp16")
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (small_images,), ()
    cfg.OUTPUT_DIR = str(tmp_path)
    _, whole = train(cfg)
    assert (tmp_path / "model_0000001.pth").is_file()
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    trainer, resumed = train(cfg, resume=True)
    assert whole.isfinite().all()
    assert (whole - resumed).norm() < 1e-4 * whole.norm()
    if precision == "fp16":
        assert trainer._trainer.grad_scaler.get_scale() > 1


def test_torchrun(repository, environment, gpu, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    instant = "configs/quick_schedules/mask_rcnn_lite0_unetsharp_instant_test.yaml"
    command += ["tools/train_net.py", "--config-file", instant]
    options = {"OUTPUT_DIR": tmp_path, "MODEL.DEVICE": gpu, "DATASETS.TEST": "()"}
    command += [str(part) for pair in options.items() for part in pair]
    done = subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "model_final.pth").is_file()


@pytest.mark.usefixtures("group")
def test_a_neck_with_synchronised_norms_trains(config, gpu):
    neck = build_backbone(config("detector", "MODEL.FPN.NORM", "SyncBN")).to(gpu)
    neck = nn.parallel.DistributedDataParallel(neck, device_ids=[0])
    maps = neck(torch.randn(2, 3, 128, 128, device=gpu))
    sum(x.square().mean() for x in maps.values()).backward()
    norms = [m for m in neck.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert norms
    assert all(norm.weight.grad.isfinite().all() and norm.num_batches_tracked for norm in norms)
