"""Train in two CPU processes until they stop early: (config, json file, image root, output)."""

import json
import sys

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch.multiprocessing import start_processes

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data import register_coco_nuclei
from unet_sharp_det.training import NucleiTrainer

OPTIONS = [
    *("MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False"),
    *("DATASETS.TRAIN", "('three_images',)", "DATASETS.TEST", "('three_images',)"),
    *(
        "INPUT.SCALE_TEST",
        "0.5",
        "SOLVER.MAX_ITER",
        "9",
        "TEST.EVAL_PERIOD",
        "1",
        "SOLVER.CHECKPOINT_PERIOD",
        "1",
        "TEST.BEST_METRIC",
        "validation/total_loss",
    ),
    *("TEST.EARLY_STOPPING.PATIENCE", "1", "TEST.EARLY_STOPPING.MIN_DELTA", "1000.0"),
]


def config(file: str, json_file: str, image_root: str, output: str):
    register_coco_nuclei("three_images", json_file, image_root, ["nucleus"])
    return setup_cfg(file, [*OPTIONS, "OUTPUT_DIR", output])


def train(rank: int, arguments: list[str]) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{arguments[-1]}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    comm.create_local_process_group(2)
    cfg = config(*arguments)
    trainer = NucleiTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    with open(f"{cfg.OUTPUT_DIR}/rank{rank}.json", "w") as file:
        json.dump({"iteration": trainer.iter}, file)
    dist.destroy_process_group()


if __name__ == "__main__":
    # Forked before torch has run anything, the two need not import it again.
    start_processes(train, (sys.argv[1:],), nprocs=2, start_method="fork")
