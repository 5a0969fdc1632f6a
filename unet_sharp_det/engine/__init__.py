from .launch import check_num_gpus, distribute, launch
from .setup import fall_back_to_cpu, setup_cfg
from .trainer import NucleiTrainer

__all__ = [
    "NucleiTrainer",
    "check_num_gpus",
    "distribute",
    "fall_back_to_cpu",
    "launch",
    "setup_cfg",
]
