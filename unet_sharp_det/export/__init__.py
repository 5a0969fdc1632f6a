"""A trained model as one file for other programs; see docs/EXPORT.md and tools/export_model.py."""

from .formats import FORMATS, PRECISIONS
from .model_files import ExportRequest, export_model
from .probability_model import ProbabilityModel

__all__ = ["FORMATS", "PRECISIONS", "ExportRequest", "ProbabilityModel", "export_model"]
