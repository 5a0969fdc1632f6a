"""The U-Nets as plain modules, without a detectron2 config."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .losses import HybridLoss
from .sem_seg_head import UNetSharpHead
from .semantic_labels import SemanticLabels
from .skip_decoder import SkipDecoder
from .unet_encoder import UNET_CHANNELS, VNET_CHANNELS, UNetEncoder, VNetEncoder


class SkipUNet(nn.Module):
    """UNet, UNet++, UNet 3+ or UNet# on the papers' encoder, in 2D, or V-Net likewise in 3D.

    The modules are named as in ``SemanticSegmentor``, so that ``checkpoint["model"]`` of a training
    by ``tools/train_net.py`` loads here. It must then be fed as that training was: with the configs
    of this package, ``(rescale_to_uint8(rgb) - 127.5) / 127.5`` of the whole image, where
    :func:`unet_sharp_det.images.intensity.rescale_to_uint8` is ``INPUT.STRETCH_CONTRAST``.

    Example::

        net = SkipUNet("unetsharp", deep_supervision="all")
        losses = net(images, label_maps)          # training: {"loss_sem_seg_dice": ..., ...}
        probabilities = net.eval()(images)        # (N, num_classes, H, W)
    """

    def __init__(
        self,
        scheme: str = "unetsharp",
        in_channels: int | None = None,
        num_classes: int = 1,
        *,
        channels: Sequence[int] | None = None,
        dim: int = 2,
        norm: str = "BN",
        activation: str = "sigmoid",
        regions: Sequence[Sequence[int]] = (),
        ignore_value: int = 255,
        inference: str = "accurate",
        loss: nn.Module | None = None,
        cgm_loss_weight: float = 1.0,
        **decoder_options,
    ):
        """
        Args:
            scheme: name of a registered skip scheme.
            in_channels: channels of the images (default 3) or volumes (default 1).
            num_classes, activation, regions, ignore_value: see :class:`SemanticLabels`.
            channels: of the encoder's levels, finest first. None: 32..512, in 3D 16..256.
            dim: 2, or 3 for V-Net's encoder.
            norm: norm of encoder and decoder in 2D; V-Net's encoder has BatchNorm.
            inference, loss, cgm_loss_weight: see :class:`UNetSharpHead`. None: the hybrid loss.
            decoder_options: of :class:`SkipDecoder`: ``edge``, ``edge_order``, ``node_channels``,
                ``deep_supervision``, ``cgm``, ``checkpoint``, ...

        Raises:
            ConfigError: an option is unknown or contradicts another.
        """
        super().__init__()
        if dim == 2:
            self.backbone = UNetEncoder(in_channels or 3, channels or UNET_CHANNELS, norm)
        elif dim == 3:
            self.backbone = VNetEncoder(in_channels or 1, channels or VNET_CHANNELS)
        else:
            raise ConfigError(f"dim is {dim}, but images have 2 or 3 dimensions.")
        labels = SemanticLabels(num_classes, activation, regions, ignore_value)
        shapes = self.backbone.output_shape()
        decoder = SkipDecoder(
            [shape.channels for shape in shapes.values()],
            num_classes,
            scheme=scheme,
            norm=norm,
            dim=dim,
            **decoder_options,
        )
        self.sem_seg_head = UNetSharpHead(
            decoder,
            tuple(shapes),
            labels=labels,
            loss=loss or HybridLoss(exclusive=activation == "softmax"),
            cgm_loss_weight=cgm_loss_weight,
            inference=inference,
        )

    def forward(self, images: Tensor, targets: Tensor | None = None):
        """
        Args:
            images: (N, in_channels, H, W), or (N, in_channels, D, H, W).
            targets: label maps (N, H, W), or (N, D, H, W), integer. Labels are checked on the CPU
                alone, for a GPU would wait for the answer in every iteration.

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
        if targets.device.type == "cpu" and not torch.compiler.is_compiling():
            head.labels.check(targets)
        return head.losses(head.decoder(maps), targets)
