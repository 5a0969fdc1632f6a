from .hooks import BestCheckpointer, explain_divergence
from .launch import check_num_gpus, distribute, launch
from .lazy import load_lazy_cfg
from .setup import fall_back_to_cpu, setup_cfg
from .trainer import NucleiTrainer

__all__ = [
    "BestCheckpointer",
    "NucleiTrainer",
    "check_num_gpus",
    "distribute",
    "explain_divergence",
    "fall_back_to_cpu",
    "launch",
    "load_lazy_cfg",
    "setup_cfg",
]
