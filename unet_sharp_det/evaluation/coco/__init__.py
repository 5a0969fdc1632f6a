"""COCO's average precision for many small objects."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "ap": ["CocoResult", "coco_average_precision"],
    },
)
