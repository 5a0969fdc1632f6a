"""Maps in the channels-last format, in which a CPU convolves and pools ROIs faster."""

import torch
from torch import nn

from .roi_pooling import PixelROIPooler


def use_channels_last(model: nn.Module) -> bool:
    """Let a model on a CPU compute its maps in the channels-last format, in place.

    ROIs are pooled by :class:`.roi_pooling.PixelROIPooler`. Results and gradients are the same but
    for rounding, and weights stay as they are, so that it serves training, too.

    Args:
        model: without a ``backbone``, in 3D, or with group norms in the backbone, it stays as it
            is, for the format is of 2D maps, and torch's group norms are inexact in it (relative
            errors of 0.01).

    Returns:
        bool: whether it does now.
    """
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        return False
    if any(isinstance(module, nn.GroupNorm) for module in backbone.modules()):
        return False
    if any(isinstance(module, nn.Conv3d) for module in model.modules()):
        return False
    backbone.register_forward_pre_hook(_input_to_channels_last)
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if PixelROIPooler.computes(module):
                setattr(parent, name, PixelROIPooler(module))
            elif isinstance(module, nn.GroupNorm):
                module.register_forward_pre_hook(_input_to_contiguous)
    return True


def _input_to_channels_last(_, inputs: tuple) -> tuple:
    images, *others = inputs
    return images.contiguous(memory_format=torch.channels_last), *others


def _input_to_contiguous(_, inputs: tuple) -> tuple:
    return (inputs[0].contiguous(),)
