"""Training: configs of either kind, workers, the trainer, and its hooks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "best_metric": [
            "BestCheckpointer",
            "EarlyStop",
            "EarlyStopping",
            "build_validation_hooks",
        ],
        "launch": ["check_num_gpus", "distribute"],
        "lazy": ["LazyTrainer", "load_lazy_cfg", "read_config"],
        "mixed_precision": ["choose_trainer"],
        "run": ["run_training"],
        "slurm": ["submit"],
        "stopping": ["STOPPED_STATUS", "StopOnSignal", "exit_on_sigterm"],
        "stream": ["ReplayableLoader"],
        "trainer": ["NucleiTrainer", "explain_failure"],
        "validation_loss": ["ValidationLoss"],
    },
)
