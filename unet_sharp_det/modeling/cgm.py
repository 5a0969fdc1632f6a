"""The classification-guided module (CGM) of UNet#: does an image hold anything to segment?"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ClassificationGuidedModule(nn.Module):
    """Tell from a branch's node whether the image holds foreground (Sec. 2.3 and Fig. 3).

    ::

        x   = Flatten( cat( AdaptiveAvgPool(1), AdaptiveMaxPool(1) ) )
        small:  BatchNorm1d, Dropout, Linear -> 2
        large:  BatchNorm1d, Dropout, Linear -> hidden, ReLU, BatchNorm1d, Dropout, Linear -> 2

    In training its :func:`classification_loss` is added to that of the branch, and nothing gated:
    the paper's gate is an argmax, which has no gradient. :func:`gate` is for inference.
    """

    def __init__(self, channels: int, *, hidden: int | None = None, dropout: float = 0.5):
        """
        Args:
            channels: of the branch's node.
            hidden: width between the two linear layers of the large structure. None: the small
                structure.
        """
        super().__init__()
        if hidden is None:
            layers = _classifier(2 * channels, 2, dropout)
        else:
            layers = _classifier(2 * channels, hidden, dropout)
            layers += [nn.ReLU(inplace=True), *_classifier(hidden, 2, dropout)]
        self.classifier = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: (N, C, H, W), or (N, C, D, H, W).

        Returns:
            Tensor: logits (N, 2); index 1 stands for "the image holds foreground".
        """
        x = x.flatten(2)
        return self.classifier(torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1))


class SingleRowBatchNorm1d(nn.BatchNorm1d):
    """BatchNorm1d for training on a row too, where BatchNorm1d raises: a row has no variance.

    It is normalised by the running statistics, as in inference, and leaves them as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or len(x) > 1:
            return super().forward(x)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def _classifier(in_channels: int, out_channels: int, dropout: float) -> list[nn.Module]:
    return [
        SingleRowBatchNorm1d(in_channels),
        nn.Dropout(dropout),
        nn.Linear(in_channels, out_channels),
    ]


def classification_loss(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy on "does the image hold a valid pixel of foreground" (Sec. 2.3).

    The paper calls it BCE; over two softmax outputs that is cross-entropy. Computed in float32
    also under autocast, in float64 for float64 logits. An image without any valid pixel could be
    either; it counts in the mean as an image of loss 0.

    Args:
        logits: (N, 2), of :class:`ClassificationGuidedModule`.
        targets: bool (N, C, H, W), or (N, C, D, H, W): where each channel of foreground holds.
        valid: bool (N, 1, H, W), or (N, 1, D, H, W): the pixels that count.

    Returns:
        Tensor: a scalar, the mean over the images.
    """
    holds_foreground = (targets & valid).flatten(1).any(dim=1)
    known = valid.flatten(1).any(dim=1)
    with torch.autocast(logits.device.type, enabled=False):
        precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
        losses = F.cross_entropy(precise, holds_foreground.long(), reduction="none")
        return (losses * known).mean()


def gate(probabilities: Tensor, logits: Tensor) -> Tensor:
    """Empty the images classified as empty: ``probabilities * argmax(softmax(logits))``.

    Not the logits of the segmentation: one of 0 is a probability of .5, which is foreground.

    Args:
        probabilities: (N, C, H, W), or (N, C, D, H, W).
        logits: (N, 2), of :class:`ClassificationGuidedModule`.
    """
    keep = logits.argmax(dim=1).to(probabilities.dtype)
    return probabilities * keep.view(-1, *[1] * (probabilities.dim() - 1))
