from .losses import HybridLoss
from .sem_seg_head import UNetSharpHead
from .skip_decoder import SkipDecoder
from .skip_fpn import SkipFPN, build_skip_fpn_backbone
from .skip_grid import SkipGrid
from .skip_unet import SkipUNet
from .timm_backbone import TimmBackbone, build_timm_backbone
from .unet_encoder import UNetEncoder, VNetEncoder, build_unet_encoder

__all__ = [
    "HybridLoss",
    "SkipDecoder",
    "SkipFPN",
    "SkipGrid",
    "SkipUNet",
    "TimmBackbone",
    "UNetEncoder",
    "UNetSharpHead",
    "VNetEncoder",
    "build_skip_fpn_backbone",
    "build_timm_backbone",
    "build_unet_encoder",
]
