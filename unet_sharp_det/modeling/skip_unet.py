"""The U-Nets as plain modules, without a detectron2 config."""

from collections.abc import Sequence

from torch import nn

from .segmentation_head import EncoderDecoder
from .semantic_labels import SemanticLabels
from .skip_decoder import SkipDecoder, decoder_options
from .unet_encoder import UNET_CHANNELS, VNET_CHANNELS, UNetEncoder, VNetEncoder


class SkipUNet(EncoderDecoder):
    """UNet, UNet++, UNet 3+ or UNet# on the papers' encoder, in 2D, or V-Net likewise in 3D.

    Example::

        >>> import torch
        >>> from unet_sharp_det import SkipUNet
        >>> net = SkipUNet("unetsharp", channels=(4, 8, 8), deep_supervision="all")
        >>> losses = net(torch.zeros(2, 3, 32, 32), torch.ones(2, 32, 32, dtype=torch.long))
        >>> sorted(losses)
        ['loss_sem_seg_dice', 'loss_sem_seg_focal', 'loss_sem_seg_lovasz']
        >>> tuple(net.eval()(torch.zeros(1, 3, 45, 30)).shape)
        (1, 1, 45, 30)
    """

    def __init__(
        self,
        scheme: str = "unetsharp",
        in_channels: int | None = None,
        num_classes: int = 1,
        *,
        channels: Sequence[int] | None = None,
        labels: SemanticLabels | None = None,
        deep_supervision: str = "none",
        cgm: bool = False,
        cgm_dropout: float = 0.5,
        inference: str = "accurate",
        loss: nn.Module | None = None,
        **options,
    ):
        """
        Args:
            scheme: name of a registered skip scheme.
            in_channels: channels of the images (default 3) or volumes (default 1).
            num_classes: channels of the output, each a yes-or-no map.
            channels: of the encoder's levels, finest first. None: 32..512, in 3D 16..256.
            labels: what the channels mean, in the place of ``num_classes``.
            deep_supervision, cgm, cgm_dropout: see :class:`SkipDecoder`.
            inference, loss: see :class:`SegmentationHead`. None: the hybrid loss.
            options: of :func:`decoder_options`: ``dim=3`` for volumes on V-Net's encoder, ``norm``
                of encoder and decoder, ``edge``, ``checkpoint``, ...

        Raises:
            ConfigError: an option is unknown or contradicts another.
        """
        grid = decoder_options(scheme, **options)
        if grid.dim == 2:
            backbone = UNetEncoder(in_channels or 3, channels or UNET_CHANNELS, grid.norm)
        else:
            backbone = VNetEncoder(in_channels or 1, channels or VNET_CHANNELS, norm=grid.norm)
        labels = labels or SemanticLabels(num_classes)
        decoder = SkipDecoder(
            [shape.channels for shape in backbone.output_shape().values()],
            labels.num_classes,
            scheme=scheme,
            options=grid,
            deep_supervision=deep_supervision,
            cgm=cgm,
            cgm_dropout=cgm_dropout,
        )
        super().__init__(backbone, decoder, labels=labels, loss=loss, inference=inference)
