from .skip_fpn import SkipFPN, build_skip_fpn_backbone
from .skip_grid import SkipGrid
from .timm_backbone import TimmBackbone, build_timm_backbone

__all__ = [
    "SkipFPN",
    "SkipGrid",
    "TimmBackbone",
    "build_skip_fpn_backbone",
    "build_timm_backbone",
]
