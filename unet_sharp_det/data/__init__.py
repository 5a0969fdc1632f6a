"""Data of microscopy images: registration, checks, augmentation, mapping, label maps."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "augmentation": [
            "RandomColor",
            "RandomRotate90",
            "StretchContrast",
            "build_augmentations",
        ],
        "catalog": ["load_coco_nuclei", "register_coco_nuclei", "register_dsb2018"],
        "label_maps": ["read_label_map"],
        "mapper": ["NucleiDatasetMapper"],
        "volume_mapper": ["VolumeMapper"],
        "volume_catalog": ["register_volumes"],
    },
)
