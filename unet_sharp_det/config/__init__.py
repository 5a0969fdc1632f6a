"""The keys of this package in detectron2's config, and reading configs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "keys": ["add_unet_sharp_config"],
        "reading": ["find_config", "flatten", "setup_cfg"],
    },
)
