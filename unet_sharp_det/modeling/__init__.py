from .skip_fpn import SkipFPN, build_skip_fpn_backbone
from .skip_grid import SkipGrid

__all__ = ["SkipFPN", "SkipGrid", "build_skip_fpn_backbone"]
