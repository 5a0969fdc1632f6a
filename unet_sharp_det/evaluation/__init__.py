"""Evaluators: COCO's AP for many small objects, the measures of cells, and those of label maps."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "build": ["build_nuclei_evaluators"],
        "evaluators.coco": ["NucleiCOCOEvaluator"],
        "evaluators.instances": ["InstanceEvaluator"],
        "evaluators.semantic": ["SemanticEvaluator"],
        "evaluators.volumes": ["VolumeEvaluator"],
        "record": ["EvaluationOptions"],
    },
)
