"""Encoder and head of the U-Nets as registered parts of detectron2 models, built from a config."""

from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, SEM_SEG_HEADS_REGISTRY, Backbone

from ..errors import ConfigError
from ..skip_schemes import resolve_scheme
from .features import feature_shapes
from .losses import HybridLoss
from .segmentation_head import SegmentationHead
from .segnetr import SegNetrDecoder, SegNetrEncoder
from .semantic_labels import SemanticLabels
from .skip_decoder import BranchDecoder, SkipDecoder, decoder_options
from .unet_encoder import UNetEncoder, VNetEncoder

for encoder in (UNetEncoder, VNetEncoder, SegNetrEncoder):
    Backbone.register(encoder)  # It has the methods, but must not import detectron2.


@BACKBONE_REGISTRY.register()
def build_unet_encoder(cfg, input_shape: ShapeSpec) -> UNetEncoder:
    """Build a :class:`UNetEncoder` from ``MODEL.UNET``."""
    unet = cfg.MODEL.UNET
    return UNetEncoder(input_shape.channels, unet.CHANNELS, unet.NORM)


@BACKBONE_REGISTRY.register()
def build_segnetr_backbone(cfg, input_shape: ShapeSpec) -> SegNetrEncoder:
    """Build a :class:`SegNetrEncoder` from ``MODEL.SEGNETR``."""
    segnetr = cfg.MODEL.SEGNETR
    return SegNetrEncoder(
        input_shape.channels,
        segnetr.CHANNELS,
        segnetr.NORM,
        tap=segnetr.TAP,
        out_features=segnetr.OUT_FEATURES,
    )


@BACKBONE_REGISTRY.register()
def build_vnet_encoder(cfg, input_shape: ShapeSpec) -> VNetEncoder:
    """Build a :class:`VNetEncoder` from ``MODEL.UNET``."""
    unet = cfg.MODEL.UNET
    return VNetEncoder(input_shape.channels, unet.CHANNELS, norm=unet.NORM)


def loss_options(cfg, labels: SemanticLabels) -> dict:
    """The arguments of :class:`SegmentationHead` that say what is learnt."""
    head = cfg.MODEL.SEM_SEG_HEAD
    weights = (head.LOSS.FOCAL, head.LOSS.DICE, head.LOSS.LOVASZ)
    loss = HybridLoss(*weights, exclusive=labels.activation == "softmax")
    return {"labels": labels, "loss": loss, "loss_weight": head.LOSS_WEIGHT}


@SEM_SEG_HEADS_REGISTRY.register()
class UNetSharpHead(SegmentationHead):
    """:class:`SegmentationHead` for ``SemanticSegmentor``, ``PanopticFPN``, ``VolumeSegmentor``."""

    @configurable
    def __init__(self, decoder: BranchDecoder, in_features: tuple[str, ...], **options):
        """Take the arguments of :class:`SegmentationHead`, or a config and the encoder's shapes."""
        super().__init__(decoder, in_features, **options)

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read ``MODEL.SEM_SEG_HEAD``; it is in 3D if the patches of volumes are."""
        head = cfg.MODEL.SEM_SEG_HEAD
        labels = SemanticLabels.from_config(cfg)
        shapes = feature_shapes(input_shape, head.IN_FEATURES, "MODEL.SEM_SEG_HEAD.IN_FEATURES")
        return {
            **loss_options(cfg, labels),
            "decoder": cls._build_decoder(cfg, shapes, labels.num_classes),
            "in_features": tuple(head.IN_FEATURES),
            "stride": shapes[0].stride,
            "cgm_loss_weight": head.CGM.LOSS_WEIGHT,
            "inference": head.INFERENCE,
        }

    @staticmethod
    def _build_decoder(cfg, shapes: list[ShapeSpec], num_classes: int) -> BranchDecoder:
        head = cfg.MODEL.SEM_SEG_HEAD
        on_volumes = cfg.MODEL.META_ARCHITECTURE == "VolumeSegmentor"
        options = decoder_options(
            head.SKIP_SCHEME,
            head.EDGE,
            skip=head.SKIP_CONNECTION,
            edge_order=head.EDGE_ORDER,
            edge_channels=head.EDGE_CHANNELS or None,
            node_channels=head.NODE_CHANNELS or None,
            node_convs=head.NODE_CONVS or None,
            norm=head.NORM,
            dim=3 if on_volumes and cfg.INPUT.VOLUME.PATCH_SIZE[0] > 1 else 2,
            checkpoint=head.ACTIVATION_CHECKPOINT,
        )
        return SkipDecoder(
            [shape.channels for shape in shapes],
            num_classes,
            scheme=head.SKIP_SCHEME,
            options=options,
            strides=[shape.stride for shape in shapes],
            deep_supervision=head.DEEP_SUPERVISION,
            cgm=head.CGM.ENABLED,
            cgm_dropout=head.CGM.DROPOUT,
        )


@SEM_SEG_HEADS_REGISTRY.register()
class SegNetrHead(UNetSharpHead):
    """The same with SegNetr's decoder, for ``IN_FEATURES`` of :class:`.SegNetrEncoder`."""

    @staticmethod
    def _build_decoder(cfg, shapes: list[ShapeSpec], num_classes: int) -> BranchDecoder:
        head = cfg.MODEL.SEM_SEG_HEAD
        if resolve_scheme(head.SKIP_SCHEME) != "fpn":
            raise ConfigError(
                f"MODEL.SEM_SEG_HEAD.SKIP_SCHEME is '{head.SKIP_SCHEME}', but SegNetrHead has that "
                "of UNet. Set fpn."
            )
        return SegNetrDecoder(
            [shape.channels for shape in shapes],
            num_classes,
            norm=head.NORM,
            checkpoint=head.ACTIVATION_CHECKPOINT,
            deep_supervision=head.DEEP_SUPERVISION,
            cgm=head.CGM.ENABLED,
            cgm_dropout=head.CGM.DROPOUT,
        )
