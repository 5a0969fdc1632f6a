"""The U-Nets as plain modules, without a detectron2 config."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .losses import HybridLoss
from .segmentation_head import SegmentationHead
from .semantic_labels import SemanticLabels
from .skip_decoder import SkipDecoder, decoder_options
from .unet_encoder import UNET_CHANNELS, VNET_CHANNELS, UNetEncoder, VNetEncoder


class SkipUNet(nn.Module):
    """UNet, UNet++, UNet 3+ or UNet# on the papers' encoder, in 2D, or V-Net likewise in 3D.

    The modules are named as in ``SemanticSegmentor``, so that ``checkpoint["model"]`` of
    ``unet-sharp-det train`` loads here. It must then be fed as that training was: with the configs
    of this package, ``(rescale_to_uint8(rgb) - 127.5) / 127.5`` of the whole image, where
    :func:`unet_sharp_det.images.intensity.rescale_to_uint8` is ``INPUT.STRETCH_CONTRAST``.

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
        super().__init__()
        grid = decoder_options(scheme, **options)
        if grid.dim == 2:
            self.backbone = UNetEncoder(in_channels or 3, channels or UNET_CHANNELS, grid.norm)
        else:
            self.backbone = VNetEncoder(in_channels or 1, channels or VNET_CHANNELS, norm=grid.norm)
        labels = labels or SemanticLabels(num_classes)
        shapes = self.backbone.output_shape()
        decoder = SkipDecoder(
            [shape.channels for shape in shapes.values()],
            labels.num_classes,
            scheme=scheme,
            options=grid,
            deep_supervision=deep_supervision,
            cgm=cgm,
            cgm_dropout=cgm_dropout,
        )
        self.sem_seg_head = SegmentationHead(
            decoder,
            tuple(shapes),
            labels=labels,
            loss=loss or HybridLoss(exclusive=labels.activation == "softmax"),
            inference=inference,
        )

    def forward(self, images: Tensor, targets: Tensor | None = None):
        """
        Args:
            images: (N, in_channels, H, W), or (N, in_channels, D, H, W).
            targets: label maps (N, H, W), or (N, D, H, W), integer.

        Returns:
            With ``targets`` the losses by name, whose sum is to be minimised; without them
            probabilities (N, num_classes, H, W).

        Raises:
            DatasetError: ``targets`` are not of the images' size, or hold unknown labels.
        """
        head = self.sem_seg_head
        features = self.backbone(images)
        maps = [features[name] for name in head.in_features]
        if targets is None:
            return head.probabilities(maps)
        # A GPU would wait for the answer in every iteration.
        if targets.device.type == "cpu" and not torch.compiler.is_compiling():
            head.labels.check(targets)
        return head.losses(head.decoder(maps), targets)
