"""Whole segmentation networks of other libraries, under our losses, labels and evaluators.

A network is the decoder of a :class:`SegmentationHead`: it takes the image and gives one branch of
full size. docs/RIVALS.md lists them beside Table 3 of the UNet# paper.
"""

import importlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, SEM_SEG_HEADS_REGISTRY, Backbone
from torch import Tensor, nn

from ..errors import ConfigError, first_line, look_up_option
from ..skip_schemes import Node
from .layers import build_norm, pad_or_cut, round_up
from .segmentation_head import SegmentationHead
from .sem_seg_head import loss_options
from .semantic_labels import SemanticLabels
from .skip_decoder import Branch


class _Library(NamedTuple):
    """The module of networks, its name for output channels, and what all its networks get."""

    module: str
    classes: str
    arguments: dict


_SMP = _Library("segmentation_models_pytorch", "classes", {"encoder_weights": None})
_MONAI = _Library("monai.networks.nets", "out_channels", {"spatial_dims": 2})
_OWN = _Library(f"{__package__}.enet", "num_classes", {})

#: Class name of a network -> where it comes from.
EXTERNAL_NETWORKS = {
    "PSPNet": _SMP,
    "DeepLabV3Plus": _SMP,
    "AttentionUnet": _MONAI,
    "DynUNet": _MONAI,
    "ENet": _OWN,
}


def build_external_network(
    name: str, in_channels: int, num_classes: int, arguments: dict | None = None
) -> nn.Module:
    """Build a network of :data:`EXTERNAL_NETWORKS`, which gives logits of the image's size.

    Args:
        name: its class name.
        in_channels, num_classes: channels of the images and of the logits.
        arguments: others of the class. Encoders start at random unless ``encoder_weights`` says
            else, and MONAI's networks are of 2 ``spatial_dims``.

    Raises:
        ConfigError: the name is unknown, its library is not installed, or an argument is wrong.
    """
    library = EXTERNAL_NETWORKS[
        look_up_option(name, EXTERNAL_NETWORKS, "MODEL.EXTERNAL.NAME", ConfigError)
    ]
    try:
        network = getattr(importlib.import_module(library.module), name)
    except ImportError as error:
        raise ConfigError(
            f"MODEL.EXTERNAL.NAME: '{name}' is a network of {library.module.partition('.')[0]}, "
            "which is not installed. Run: pip install unet_sharp_det[rivals]."
        ) from error
    channels = {"in_channels": in_channels, library.classes: num_classes}
    try:
        return network(**{**library.arguments, **(arguments or {}), **channels})
    except Exception as error:  # of any kind: each library checks in its own way
        raise ConfigError(
            f"MODEL.EXTERNAL.ARGUMENTS: {name} cannot be built of them "
            f"({type(error).__name__}: {first_line(error)}). See docs/RIVALS.md."
        ) from error


def group_norms_for_batch_norms(module: nn.Module) -> None:
    """Put in place of each BatchNorm below ``module`` the GroupNorm that our own networks have.

    Layers that join a BatchNorm and an activation, as of timm's EfficientNets, stay.
    """
    for name, child in module.named_children():
        if type(child) in (nn.BatchNorm2d, nn.BatchNorm3d):
            setattr(module, name, build_norm("GN", child.num_features, dim=2))
        else:
            group_norms_for_batch_norms(child)


class ExternalDecoder(nn.Module):
    """A network of another library with the interface of :class:`SkipDecoder`: one branch.

    Example::

        >>> import torch
        >>> from torch import nn
        >>> from unet_sharp_det.modeling.external_networks import ExternalDecoder
        >>> network = nn.Conv2d(3, 2, 4, stride=4)
        >>> decoder = ExternalDecoder(nn.Sequential(network, nn.Upsample(scale_factor=4)), 4)
        >>> [branch] = decoder([torch.zeros(1, 3, 45, 30)]).values()
        >>> tuple(branch.logits.shape)
        (1, 2, 45, 30)
    """

    full_size_branches = [(0, 1)]

    def __init__(self, network: nn.Module, size_divisibility: int = 32):
        """
        Args:
            network: images (N, C, H, W), or volumes, to logits (N, num_classes, H, W).
            size_divisibility: the network takes sides that are multiples of it. Others are padded
                by 0, the mean colour, and the logits cut.
        """
        super().__init__()
        self.network = network
        self.size_divisibility = size_divisibility
        self.cgm = nn.ModuleDict()

    def forward(
        self, features: Sequence[Tensor], branches: Iterable[Node] | None = None
    ) -> dict[Node, Branch]:
        """[images] to the branch of the network."""
        (images,) = features
        size = images.shape[2:]
        logits = self.network(pad_or_cut(images, round_up(size, self.size_divisibility)))
        return {self.full_size_branches[0]: Branch(pad_or_cut(logits, size), None)}


class ImageBackbone(Backbone):
    """The image itself as the map "image" of stride 1, for heads that are whole networks."""

    def __init__(self, channels: int, dim: int = 2):
        super().__init__()
        self.channels = channels
        self.dim = dim

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"image": images}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"image": ShapeSpec(channels=self.channels, stride=1)}


@BACKBONE_REGISTRY.register()
def build_image_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ImageBackbone:
    """Build an :class:`ImageBackbone` of the dimensions of ``MODEL.EXTERNAL``."""
    dim = cfg.MODEL.EXTERNAL.ARGUMENTS.get("spatial_dims", 2)
    return ImageBackbone(input_shape.channels, dim)


@SEM_SEG_HEADS_REGISTRY.register()
class ExternalHead(SegmentationHead):
    """:class:`SegmentationHead` with an :class:`ExternalDecoder` on :class:`ImageBackbone`."""

    @configurable
    def __init__(self, decoder: ExternalDecoder, **options):
        """Take the arguments of :class:`SegmentationHead`, or a config and the image's shape."""
        super().__init__(decoder, ("image",), **options)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read ``MODEL.EXTERNAL``, and labels and losses of ``MODEL.SEM_SEG_HEAD``."""
        if "image" not in input_shape:
            raise ConfigError(
                "ExternalHead takes the image, not feature maps. Set MODEL.BACKBONE.NAME "
                "build_image_backbone."
            )
        external = cfg.MODEL.EXTERNAL
        labels = SemanticLabels.from_config(cfg)
        channels = input_shape["image"].channels
        network = build_external_network(
            external.NAME, channels, labels.num_classes, external.ARGUMENTS
        )
        if cfg.MODEL.SEM_SEG_HEAD.NORM == "GN":
            group_norms_for_batch_norms(network)
        decoder = ExternalDecoder(network, external.SIZE_DIVISIBILITY)
        return {**loss_options(cfg, labels), "decoder": decoder}
