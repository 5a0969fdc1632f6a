"""The measures of instances: one overlap of true and predicted map gives them all."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "measures": ["INSTANCE_MEASURES", "Measure"],
        "overlap": ["InstanceOverlap"],
        "results": ["InstanceResults", "MeasureTable"],
    },
)
