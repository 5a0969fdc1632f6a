"""Training: configs from the command line, workers, the trainer, and its hooks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "best_metric": ["BestCheckpointer"],
        "early_stopping": ["EarlyStopping", "end_at_early_stop"],
        "hooks": ["build_validation_hooks", "explain_failure"],
        "lazy": ["amp_precision", "load_lazy_cfg"],
        "mixed_precision": ["choose_trainer"],
        "resources": ["write_device_memory"],
        "run": ["run_training"],
        "setup": ["fall_back_to_cpu", "setup_cfg"],
        "stopping": ["STOPPED_STATUS", "StopOnSignal", "exit_on_sigterm"],
        "trainer": ["NucleiTrainer"],
        "validation_loss": ["ValidationLoss"],
    },
)
