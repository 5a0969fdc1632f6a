"""Work in two CPU processes: forks, which need not import again what this process has."""

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch.multiprocessing import start_processes

from unet_sharp_det.training import NucleiTrainer


def train_in_two_processes(cfg) -> list[dict]:
    """Train by a config; return of each process where it ended, its first batch and its weights.

    Keys: ``iteration``, ``images``, and the state dicts ``before`` and ``model``.
    """
    in_two_processes(_train, cfg.OUTPUT_DIR, cfg)
    return [torch.load(f"{cfg.OUTPUT_DIR}/rank{rank}.pth") for rank in range(2)]


def in_two_processes(work, folder, *arguments) -> None:
    """Call ``work(rank, *arguments)`` in both; they meet in a folder."""
    start_processes(_begin, (work, folder, arguments), nprocs=2, start_method="fork")


def _begin(rank: int, work, folder, arguments) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    comm.create_local_process_group(2)
    work(rank, *arguments)
    dist.destroy_process_group()


def _train(rank: int, cfg) -> None:
    trainer = NucleiTrainer(cfg)
    trainer.resume_or_load(resume=False)
    model = trainer.model.module
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = [record["file_name"] for record in next(iter(trainer.data_loader))]
    trainer.train()
    found = {"model": model.state_dict(), "before": before, "images": images}
    torch.save({**found, "iteration": trainer.iter}, f"{cfg.OUTPUT_DIR}/rank{rank}.pth")
