"""What turns a decoder's branches into losses and probabilities; needs torch only."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, DatasetError, look_up_option
from ..skip_schemes import Node
from .cgm import classification_loss, gate
from .losses import HybridLoss, class_loss
from .semantic_labels import SemanticLabels
from .skip_decoder import Branch, BranchDecoder

INFERENCE = ("accurate", "fast")


class SegmentationHead(nn.Module):
    """Semantic segmentation: a decoder, e.g. :class:`.SkipDecoder`, its loss, its inference.

    The loss is the mean of the hybrid loss over the branches, each against the ground truth at
    its size (UNet#, Sec. 2.2, Eq. 2), and the mean of CGM's classification losses. What it returns
    are probabilities, not logits, for they are gated by CGM and averaged over branches (Sec. 2.3):
    ``accurate`` is the mean over the branches of full size, ``fast`` the last of them.
    """

    def __init__(
        self,
        decoder: BranchDecoder,
        in_features: tuple[str, ...],
        *,
        labels: SemanticLabels,
        loss: HybridLoss,
        stride: int = 1,
        loss_weight: float = 1.0,
        cgm_loss_weight: float = 1.0,
        inference: str = "accurate",
    ):
        """
        Args:
            decoder: with ``labels.num_classes`` classes.
            in_features: names of the encoder maps that the decoder takes, finest first.
            labels: what the channels mean.
            loss: called as :class:`HybridLoss`.
            stride: pixels of the image per pixel of the first map; the output is enlarged by it.
            loss_weight: factor of all losses; ``cgm_loss_weight`` one more of CGM's.
            inference: ``accurate`` or ``fast``.

        Raises:
            ConfigError: ``inference`` is unknown, or CGM is to gate softmax channels.
        """
        super().__init__()
        look_up_option(inference, INFERENCE, "SEM_SEG_HEAD.INFERENCE", ConfigError)
        if len(decoder.cgm) > 0 and labels.activation == "softmax":
            raise ConfigError(
                "SEM_SEG_HEAD.CGM needs ACTIVATION: sigmoid, as one of softmax's channels always "
                "holds. Turn CGM off, or give each class but the background a sigmoid channel."
            )
        self.decoder = decoder
        self.in_features = tuple(in_features)
        self.labels = labels
        self.loss = loss
        self.stride = stride
        self.loss_weight = loss_weight
        self.cgm_loss_weight = cgm_loss_weight
        self.inference = inference

    @property
    def ignore_value(self) -> int:
        """The label that detectron2's meta architectures pad label maps with."""
        return self.labels.ignore_value

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Encoder maps by name to (None, losses) in training, else (probabilities, {})."""
        maps = [features[name] for name in self.in_features]
        if self.training:
            return None, self.losses(self.decoder(maps), targets)
        return self.probabilities(maps), {}

    def probabilities(self, maps: list[Tensor]) -> Tensor:
        """Probabilities (N, C, H_0 * stride, W_0 * stride) of the encoder maps, finest first."""
        branches = self.decoder.full_size_branches
        if self.inference == "fast":
            branches = branches[-1:]
        votes = [self.vote(branch) for branch in self.decoder(maps, branches).values()]
        return torch.stack(votes).mean(dim=0) if len(votes) > 1 else votes[0]

    def vote(self, branch: Branch) -> Tensor:
        """The probabilities (N, C, H, W) of one branch, at full size and gated by its CGM."""
        logits = self._enlarge(branch.logits)
        if self.labels.activation == "softmax":
            return logits.softmax(dim=1)
        probabilities = logits.sigmoid()
        if self.labels.class_channels:
            bands = self.labels.bands
            classes = logits[:, bands:].softmax(dim=1)
            probabilities = torch.cat([probabilities[:, :bands], classes], dim=1)
        return probabilities if branch.presence is None else gate(probabilities, branch.presence)

    def _enlarge(self, logits: Tensor) -> Tensor:
        if self.stride == 1:
            return logits
        return F.interpolate(logits, scale_factor=self.stride, mode="bilinear")

    def losses(self, branches: dict[Node, Branch], targets: Tensor) -> dict[str, Tensor]:
        """The mean over the branches of each loss term, weighted.

        Args:
            branches: of the decoder.
            targets: label maps (N, H, W), or (N, D, H, W), integer. Their labels are not checked,
                for a GPU would wait for the answer.

        Returns:
            dict[str, Tensor]: "loss_sem_seg_<term>" -> scalar.

        Raises:
            DatasetError: ``targets`` are not of the images' size.
        """
        self._check_size(next(iter(branches.values())).logits, targets)
        encoded = self.labels.encode(targets)
        terms: dict[str, list[Tensor]] = {}
        for node, branch in branches.items():
            for name, value in self._branch_losses(node, branch, *encoded).items():
                terms.setdefault(f"loss_sem_seg_{name}", []).append(value)
        return {
            name: self.loss_weight * torch.stack(values).mean() for name, values in terms.items()
        }

    def _check_size(self, logits: Tensor, targets: Tensor) -> None:
        images = [len(logits), *(n * self.stride for n in logits.shape[2:])]
        found = list(targets.shape)
        # Images that are no multiple of the stride are smaller than their maps say.
        if (
            found[:1] != images[:1]
            or len(found) != len(images)
            or not all(0 <= a - b < self.stride for a, b in zip(images[1:], found[1:], strict=True))
        ):
            raise DatasetError(
                f"label maps of shape {found} do not fit images of shape {images}. Give every "
                "image a label map of its own size."
            )

    def _branch_losses(
        self, node: Node, branch: Branch, targets: Tensor, valid: Tensor
    ) -> dict[str, Tensor]:
        logits = branch.logits
        losses = {}
        if branch.presence is not None:
            presence = classification_loss(branch.presence, targets, valid)
            losses["cgm"] = self.cgm_loss_weight * presence
        if node[0] == 0:
            # An image that is no multiple of the stride has a map that reaches beyond it.
            logits = self._enlarge(logits)[(..., *(slice(side) for side in targets.shape[2:]))]
        else:
            targets, valid = self.labels.shrink(targets, valid, logits.shape[2:])
        if self.labels.class_channels:
            bands = self.labels.bands
            losses["class"] = class_loss(logits[:, bands:], targets[:, bands:])
            logits, targets = logits[:, :bands], targets[:, :bands]
        return {**self.loss(logits, targets, valid), **losses}


class EncoderDecoder(nn.Module):
    """An encoder and a :class:`SegmentationHead` as one module, without detectron2.

    The modules are named as in ``SemanticSegmentor``, so that ``checkpoint["model"]`` of
    ``unet-sharp-det train`` loads here. It must then be fed as that training was: with the configs
    of this package, ``(rescale_to_uint8(rgb) - 127.5) / 127.5`` of the whole image, where
    :func:`unet_sharp_det.images.intensity.rescale_to_uint8` is ``INPUT.STRETCH_CONTRAST``.
    """

    def __init__(
        self,
        backbone: nn.Module,
        decoder: BranchDecoder,
        *,
        labels: SemanticLabels,
        loss: nn.Module | None = None,
        inference: str = "accurate",
    ):
        """
        Args:
            backbone: all its maps, finest first, are the decoder's.
            decoder, labels, inference: see :class:`SegmentationHead`.
            loss: likewise. None: the hybrid loss.
        """
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = SegmentationHead(
            decoder,
            tuple(backbone.output_shape()),
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
