"""Truth and predictions of any tool, from files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "predictions": ["Predictions", "open_predictions"],
        "truth": ["Truth", "open_truth"],
    },
)
