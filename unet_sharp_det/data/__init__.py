"""Data of microscopy images: registration (on import), reading, augmentation, mapping."""

from .augmentation import RandomColor, RandomRotate90, StretchContrast, build_augmentations
from .catalog import load_coco_nuclei, register_coco_nuclei, register_dsb2018
from .label_maps import read_label_map
from .mapper import NucleiDatasetMapper

__all__ = [
    "NucleiDatasetMapper",
    "RandomColor",
    "RandomRotate90",
    "StretchContrast",
    "build_augmentations",
    "load_coco_nuclei",
    "read_label_map",
    "register_coco_nuclei",
    "register_dsb2018",
]

register_dsb2018()
