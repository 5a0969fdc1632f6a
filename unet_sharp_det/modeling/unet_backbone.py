"""The U-Nets' encoder as a registered detectron2 backbone."""

from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, Backbone

from .unet_encoder import UNetEncoder, VNetEncoder

for encoder in (UNetEncoder, VNetEncoder):
    Backbone.register(encoder)  # They have its methods without importing it.


@BACKBONE_REGISTRY.register()
def build_unet_encoder(cfg, input_shape: ShapeSpec) -> UNetEncoder:
    """Build a :class:`UNetEncoder` from ``MODEL.UNET``."""
    unet = cfg.MODEL.UNET
    return UNetEncoder(input_shape.channels, unet.CHANNELS, unet.NORM)
