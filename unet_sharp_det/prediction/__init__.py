"""From a trained model to files: images of any format and size, their objects, and output files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "options": ["PredictionOptions"],
        "predictor": ["Predictor"],
        "volume_predictor": ["VolumePredictor"],
    },
)
