from ..config import setup_cfg
from ..runtime import fall_back_to_cpu
from .best_metric import BestCheckpointer, EarlyStopping, build_validation_hooks, end_at_early_stop
from .launch import check_num_gpus, distribute, launch
from .lazy import LazyTrainer, load_lazy_cfg, read_config
from .mixed_precision import choose_trainer
from .resources import write_device_memory
from .stopping import STOPPED_STATUS, StopOnSignal, exit_on_sigterm
from .stream import ReplayableLoader
from .trainer import NucleiTrainer, explain_failure
from .validation_loss import ValidationLoss

__all__ = [
    "STOPPED_STATUS",
    "BestCheckpointer",
    "EarlyStopping",
    "LazyTrainer",
    "NucleiTrainer",
    "ReplayableLoader",
    "StopOnSignal",
    "ValidationLoss",
    "build_validation_hooks",
    "check_num_gpus",
    "choose_trainer",
    "distribute",
    "end_at_early_stop",
    "exit_on_sigterm",
    "explain_failure",
    "fall_back_to_cpu",
    "launch",
    "load_lazy_cfg",
    "read_config",
    "setup_cfg",
    "write_device_memory",
]
