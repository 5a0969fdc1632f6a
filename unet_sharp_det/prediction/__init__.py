"""From a trained model to files: images of any format and size, their objects, and output files."""

from ..masks.instances import SparseInstances
from .options import PredictionOptions
from .predictor import Predictor

__all__ = [
    "PredictionOptions",
    "Predictor",
    "SparseInstances",
]
