"""Masks as COCO has them: polygons and run lengths (RLE), checked, converted, decoded."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "rle": ["mask_areas", "mask_pixels", "to_rles", "union_mask"],
    },
)
