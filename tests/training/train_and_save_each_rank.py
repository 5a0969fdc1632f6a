"""Train in two CPU processes and save what each ends with: (config file, output folder)."""

import sys
from types import SimpleNamespace

import torch
from detectron2.utils import comm

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.training import NucleiTrainer
from unet_sharp_det.training.launch import launch


def main(args) -> None:
    options = ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", args.output, "DATASETS.TEST", "()"]
    cfg = setup_cfg(args.config_file, [*options, "SOLVER.AMP.ENABLED", "False"])
    trainer = NucleiTrainer(cfg)
    trainer.resume_or_load(resume=False)
    model = trainer.model.module
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = [record["file_name"] for record in next(iter(trainer.data_loader))]
    trainer.train()
    result = {"model": model.state_dict(), "before": before, "images": images}
    torch.save(result, f"{args.output}/rank{comm.get_rank()}.pth")


if __name__ == "__main__":
    arguments = SimpleNamespace(
        config_file=sys.argv[1],
        output=sys.argv[2],
        num_gpus=2,
        num_machines=1,
        machine_rank=0,
        dist_url="auto",
    )
    launch(main, arguments, "cpu")
