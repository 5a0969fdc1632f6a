from .best_metric import BestCheckpointer
from .early_stopping import EarlyStopping, end_at_early_stop
from .hooks import build_validation_hooks, explain_failure
from .launch import check_num_gpus, distribute, launch
from .lazy import amp_precision, load_lazy_cfg
from .mixed_precision import choose_trainer
from .resources import write_device_memory
from .setup import fall_back_to_cpu, setup_cfg
from .stopping import STOPPED_STATUS, StopOnSignal, exit_on_sigterm
from .trainer import NucleiTrainer
from .validation_loss import ValidationLoss

__all__ = [
    "STOPPED_STATUS",
    "BestCheckpointer",
    "EarlyStopping",
    "NucleiTrainer",
    "StopOnSignal",
    "ValidationLoss",
    "amp_precision",
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
    "setup_cfg",
    "write_device_memory",
]
