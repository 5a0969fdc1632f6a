"""From a trained model to files: images of any format and size, their objects, and output files."""

from .instances import SparseInstances

__all__ = ["SparseInstances"]
