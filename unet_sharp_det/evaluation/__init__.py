"""Evaluators: COCO's AP for many small objects, the measures of cells, and those of label maps."""

from .evaluators.build import build_nuclei_evaluators
from .evaluators.coco import NucleiCOCOEvaluator
from .evaluators.instances import InstanceEvaluator
from .evaluators.semantic import SemanticEvaluator
from .record import EvaluationOptions

__all__ = [
    "EvaluationOptions",
    "InstanceEvaluator",
    "NucleiCOCOEvaluator",
    "SemanticEvaluator",
    "build_nuclei_evaluators",
]
