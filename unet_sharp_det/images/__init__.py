"""Images of any format: read whole for training, window by window for prediction."""

from .decoding import read_image, read_labels
from .source import ImageSource, ReadOptions, from_array, open_image

__all__ = [
    "ImageSource",
    "ReadOptions",
    "from_array",
    "open_image",
    "read_image",
    "read_labels",
]
