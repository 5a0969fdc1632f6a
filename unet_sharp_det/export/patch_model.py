"""A model of volumes as a plain module: normalised patches in, probabilities out."""

import copy

import torch
from torch import Tensor, nn

from ..modeling.volume_segmentor import VolumeSegmentor
from .probability_model import LARGEST_BATCH


class PatchModel(nn.Module):
    """What :class:`VolumeSegmentor` computes of any number of windows of its ``patch_size``."""

    has_windows = False
    free_axes = {0: ("batch", 1, LARGEST_BATCH)}

    def __init__(self, model: VolumeSegmentor):
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    def example(self, count: int) -> Tensor:
        """Return patches of noise."""
        random = torch.Generator().manual_seed(count)
        sides = (len(self.model.pixel_mean), *self.model.patch_size)
        return torch.randn(count, *sides, generator=random)

    def forward(self, patches: Tensor) -> Tensor:
        """
        Args:
            patches: (N, channels, D, H, W) as :class:`.VolumeMapper` gives them.

        Returns:
            Tensor: float32 probabilities (N, classes, D, H, W).
        """
        return self.model.probabilities(patches)
