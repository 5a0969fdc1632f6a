"""What detectron2 calls after a training: an evaluator per kind of prediction."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "coco": ["NucleiCOCOEvaluator"],
        "instances": ["InstanceEvaluator"],
        "semantic": ["SemanticEvaluator"],
    },
)
