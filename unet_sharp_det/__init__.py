"""Skip schemes of UNet++, UNet 3+ and UNet# for detectron2.

:func:`add_unet_sharp_config` adds the keys to a config and registers with detectron2 what they
name: afterwards ``MODEL.BACKBONE.NAME: build_skip_fpn_backbone`` works, and so do the data sets.
After detectron2 has been imported, importing this package is enough for that. The schemes,
:class:`SkipGrid` and :class:`SkipUNet` need torch only.
"""

import sys

import lazy_loader

__version__ = "0.2.0"

_attribute, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["model_zoo"],
    submod_attrs={
        "config": ["add_unet_sharp_config"],
        "modeling": [
            "GridOptions",
            "SegNetr",
            "SkipFPN",
            "SkipGrid",
            "SkipUNet",
            "UNetSharpHead",
            "decoder_options",
            "neck_options",
        ],
        "skip_schemes": ["Edge", "build_table", "register_scheme"],
    },
)


def __getattr__(name: str):
    try:
        return _attribute(name)
    except ModuleNotFoundError as error:
        if error.name != "detectron2":
            raise
        raise ImportError(
            f"unet_sharp_det.{name} needs detectron2, which is not on the Python package index "
            "under its own name. From a checkout of unet_sharp_det run:  bash tools/setup_env.sh "
            '--detectron2-only "$(command -v python)"'
        ) from error


if sys.modules.get("detectron2"):
    from . import registration  # noqa: F401
