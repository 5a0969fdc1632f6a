"""Skip schemes of UNet++, UNet 3+ and UNet# for detectron2.

Importing the package registers its builders and data sets with detectron2, as importing
``detectron2.modeling`` registers detectron2's own: afterwards
``MODEL.BACKBONE.NAME: build_skip_fpn_backbone`` works.
"""

try:
    import detectron2  # noqa: F401
except ImportError as error:
    raise ImportError(
        "unet_sharp_det needs detectron2, which is not on the Python package index under its own "
        "name. From a checkout of unet_sharp_det run:  bash tools/setup_env.sh --detectron2-only "
        '"$(command -v python)"  (or, for compiled ops, by its INSTALL.md).'
    ) from error

__version__ = "0.1.0"

from . import data  # noqa: F401
from .config import add_unet_sharp_config
from .modeling import SkipFPN, SkipGrid, SkipUNet, UNetSharpHead

__all__ = ["SkipFPN", "SkipGrid", "SkipUNet", "UNetSharpHead", "add_unet_sharp_config"]
