"""Masks change their form here: polygons, run lengths (RLE), objects in windows, label maps."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "instance_maps": ["InstanceMap"],
        "instances": ["SparseInstances"],
        "rle": ["encode_mask", "mask_areas", "mask_pixels", "to_rles", "union_mask"],
        "watershed": [
            "classes_of_objects",
            "distance_bands",
            "objects_of_bands",
            "split_objects",
        ],
    },
)
