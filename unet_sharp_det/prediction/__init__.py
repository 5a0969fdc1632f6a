"""From a trained model to files: images of any format and size, their objects, and output files."""

from .image_source import ImageSource, ReadOptions, from_array, open_image
from .instances import SparseInstances
from .options import PredictionOptions
from .predictor import Predictor

__all__ = [
    "ImageSource",
    "PredictionOptions",
    "Predictor",
    "ReadOptions",
    "SparseInstances",
    "from_array",
    "open_image",
]
