"""Masks as COCO has them: polygons and run lengths (RLE), checked, converted, decoded."""

from .rle import mask_areas, mask_pixels, to_rles, union_mask

__all__ = ["mask_areas", "mask_pixels", "to_rles", "union_mask"]
