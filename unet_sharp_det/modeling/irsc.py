"""The information-retention skip connection (IRSC) of SegNetr (Cheng et al., MICCAI 2023).

With ``fold`` that makes of 2 x 2 pixels one, the four beside each other in its channels, and
``unfold`` its inverse, a skip from the encoder map X of C channels carries::

    folded   unfold(half(fold(X)))          half: every other channel of X, at all four positions
    merged   unfold(Linear(LN(fold(X))))    what patch merging keeps of 4C: 2C

Both have C / 2 channels at X's own size, and each value stays at the pixel that it comes from.
``folded`` adds no parameter, and is a slice of X's channels: it fits any encoder, in 2D and 3D.
``merged`` reads the linear layer by which SegNetr's encoder halves the size, and learns with it.
"""

from collections.abc import Sequence

from torch import Tensor

from .layers import pad_or_cut


def retain_half(x: Tensor) -> Tensor:
    """The ``folded`` skip of (N, C, *sizes): (N, ceil(C / 2), *sizes)."""
    return x[:, ::2]


def patch_reverse(x: Tensor, size: Sequence[int]) -> Tensor:
    """``unfold``: (N, 4C, H, W) to (N, C, *size), ``size`` being twice (H, W), or one less."""
    positions = x.unflatten(1, (2, 2, -1)).permute(0, 4, 2, 5, 1, 3)  # N, H, row, W, column, C
    x = positions.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    return pad_or_cut(x, size)
