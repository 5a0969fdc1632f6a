"""Prediction of many files: what is done, what is left, and the summary of all."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "records": ["ImageRecord"],
        "run": ["RunSummary", "predict_files"],
        "scans": ["predict_scans"],
    },
)
