"""The hybrid segmentation loss of UNet# (Eq. 2): focal, Dice and Lovasz terms.

Throughout, logits are z, p = sigmoid(z), y in {0, 1} says where a channel holds, and s = 2y - 1.
Every channel is a binary problem of its own; :func:`one_vs_rest` turns softmax channels into such.
Pixels that are not ``valid`` add nothing; an image without any counts in the means as a loss of 0.
"""

import torch
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss


class HybridLoss(nn.Module):
    """Eq. 2: ``0.5 focal + dice + 0.5 Lovasz``, the weights being arguments.

    Computed in float32 also under autocast, in float64 for float64 logits. The paper's Eq. 6, which
    writes Eq. 2 out with one minus before all terms, would reward the focal loss. Not copied.
    """

    def __init__(
        self,
        focal_weight: float = 0.5,
        dice_weight: float = 1.0,
        lovasz_weight: float = 0.5,
        exclusive: bool = False,
    ):
        """
        Args:
            focal_weight, dice_weight, lovasz_weight: factors of the terms. 0 leaves a term out.
            exclusive: whether exactly one channel holds at a pixel (softmax).
        """
        super().__init__()
        self.focal_weight = focal_weight
        self.dice_weight = dice_weight
        self.lovasz_weight = lovasz_weight
        self.exclusive = exclusive

    def forward(self, logits: Tensor, targets: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """
        Args:
            logits: float (N, C, H, W), or (N, C, D, H, W).
            targets: bool, of the shape of ``logits``: where each channel holds.
            valid: bool (N, 1, H, W), or (N, 1, D, H, W): the pixels that count.

        Returns:
            dict[str, Tensor]: the weighted scalars ``focal``, ``dice`` and ``lovasz``, whose sum
            is the loss.
        """
        terms = {}
        with torch.autocast(logits.device.type, enabled=False):
            z = logits.to(torch.promote_types(logits.dtype, torch.float32))
            if self.exclusive:
                z = one_vs_rest(z)
            if self.focal_weight:
                terms["focal"] = self.focal_weight * focal_loss(z, targets, valid)
            if self.dice_weight:
                terms["dice"] = self.dice_weight * dice_loss(z, targets, valid)
            if self.lovasz_weight:
                terms["lovasz"] = self.lovasz_weight * lovasz_hinge(z, targets, valid)
        return terms


def one_vs_rest(logits: Tensor) -> Tensor:
    """The logits of "this channel, not another": ``z'_c = z_c - log sum_{k != c} exp z_k``.

    ``sigmoid(z'_c) = softmax(z)_c`` exactly, so that binary losses hold for softmax channels.

    Args:
        logits: (N, C, *sizes), C >= 2.
    """
    # The sum over the rest is that over all less one exponential. The largest would lose it to
    # rounding: its rest is summed by itself.
    top = logits.detach().max(dim=1, keepdim=True)
    is_top = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, top.indices, True)
    rest_of_top = logits.masked_fill(is_top, -torch.inf).logsumexp(dim=1, keepdim=True)
    powers = (logits - top.values).exp()
    rest_powers = powers.sum(dim=1, keepdim=True) - powers
    rest = rest_powers.masked_fill(is_top, 1).log() + top.values
    return logits - torch.where(is_top, rest_of_top, rest)


def focal_loss(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Focal loss: the mean of ``-a_t (1 - p_t)^gamma log p_t`` over valid pixels and channels.

    ``p_t`` is p where y = 1 and 1 - p elsewhere, ``a_t`` is .25 and .75, gamma is 2 (Lin et al.
    2017, Eq. 5). The paper's Eq. 3 prints the term of y = 1 alone, which is least for foreground
    everywhere.

    Args:
        logits, targets, valid: see :meth:`HybridLoss.forward`.
    """
    loss = sigmoid_focal_loss(logits, targets.to(logits.dtype), alpha=0.25, gamma=2)
    count = valid.sum() * logits.shape[1]
    return (loss * valid).sum() / count.clamp(min=1)


def dice_loss(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Soft Dice loss: ``1 - (2 sum(p y) + 1) / (sum p + sum y + 1)``.

    The sums run over the valid pixels of an image's channel; the mean of these losses is taken
    over images and channels. The 1 is Laplace's and keeps empty channels from 0 / 0. The paper's
    Eq. 4 lacks the sums, without which nothing balances large and small objects.

    Args:
        logits, targets, valid: see :meth:`HybridLoss.forward`.
    """
    truth = (targets & valid).flatten(2)
    p = (logits.sigmoid() * valid).flatten(2)
    overlap = (p * truth).sum(dim=2)
    return (1 - (2 * overlap + 1) / (p.sum(dim=2) + truth.sum(dim=2) + 1)).mean()


def lovasz_hinge(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Lovasz hinge: the Jaccard loss's convex extension at the errors ``m = max(0, 1 - z s)``.

    With pi sorting the errors of an image's channel in falling order, and J(M) the Jaccard loss
    ``1 - |y \\ M| / |y u M|`` of mispredicting the pixels M::

        loss = sum_i m_pi(i) * ( J({pi_1..pi_i}) - J({pi_1..pi_(i-1)}) )

    and then the mean over images and channels (Yu & Blaschko 2018; Berman et al. 2018, per image).
    A channel without foreground costs its largest error. The paper's Eq. 5 is the plain hinge
    ``m`` of a single pixel, with y in the place of s, and has nothing of Jaccard.

    Args:
        logits, targets, valid: see :meth:`HybridLoss.forward`.
    """
    hinge = (1 - torch.where(targets, logits, -logits)).relu()
    errors = hinge.masked_fill(~valid, 0).flatten(2)
    weights = _jaccard_increments(errors.detach(), (targets & valid).flatten(2))
    return (errors * weights).sum(dim=2).mean()


def class_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the classes of objects: the mean over a class's pixels, then over classes.

    A class that an image lacks pulls its channel down there, as no Dice loss of that channel would.

    Args:
        logits: float (N, C, H, W).
        targets: bool (N, C, H, W). A pixel in no channel does not count; one in several, as of a
            map of lower resolution, counts as each in equal parts.
    """
    shares = targets / targets.sum(dim=1, keepdim=True).clamp(min=1)
    losses = -(shares * logits.float().log_softmax(dim=1)).transpose(0, 1).flatten(1).sum(dim=1)
    sizes = shares.transpose(0, 1).flatten(1).sum(dim=1)
    means = losses / sizes.clamp(min=torch.finfo(sizes.dtype).tiny)
    return means.sum() / (sizes > 0).sum().clamp(min=1)


@torch.no_grad()
def _jaccard_increments(errors: Tensor, truth: Tensor) -> Tensor:
    """How much each pixel (N, C, P) adds to the Jaccard loss if they go wrong by falling error.

    A pixel of the foreground takes 1 from the intersection I, another adds 1 to the union U. As
    quotients, ``1 / U`` and ``I / (U (U - 1))`` after the step, the increments keep float32's
    precision for any number of pixels, which differences of J would not.
    """
    order = errors.argsort(dim=2, descending=True)
    sorted_truth = truth.gather(2, order)
    size = truth.sum(dim=2, keepdim=True)
    missed = sorted_truth.cumsum(dim=2, dtype=torch.int32)
    rank = torch.arange(1, truth.shape[2] + 1, dtype=torch.int32, device=truth.device)
    intersection = (size - missed).to(errors.dtype)
    union = (size + rank - missed).to(errors.dtype)
    false_alarm = intersection / (union - 1).clamp(min=1)
    increments = torch.where(sorted_truth, 1, false_alarm) / union
    increments[..., :1] += size == 0  # J jumps from 0 to 1 at the first false alarm
    return torch.empty_like(increments).scatter_(2, order, increments)
