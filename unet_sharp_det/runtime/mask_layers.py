"""The last layers of detectron2's mask head, as matrix products."""

import torch.nn.functional as F
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from torch import Tensor, nn


def multiply_mask_layers(model: nn.Module) -> None:
    """Let each ``MaskRCNNConvUpsampleHead`` of a model compute equal logits, in place."""
    for module in model.modules():
        if type(module) is MaskRCNNConvUpsampleHead:
            module.deconv = _MaskLogits(module.deconv, module.predictor)
            module.deconv_relu = module.predictor = nn.Identity()


class _MaskLogits(nn.Module):
    """A transposed convolution of 2 x 2 with stride 2, ReLU, and a 1 x 1 convolution.

    Of each pixel the first makes four, which no other pixel takes part in. So both convolutions are
    matrix products, and of the maps only the logits are put in their places.
    """

    def __init__(self, deconv: nn.ConvTranspose2d, predictor: nn.Conv2d):
        super().__init__()
        by_pixel = deconv.weight.permute(2, 3, 1, 0).flatten(0, 2)
        self.weight = nn.Parameter(by_pixel, requires_grad=False)
        self.bias = nn.Parameter(deconv.bias.repeat(4), requires_grad=False)
        self.predictor = predictor

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, K, 2 H, 2 W)."""
        four = F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias).relu_()
        weight = self.predictor.weight.flatten(1)
        logits = F.linear(four.unflatten(-1, (2, 2, -1)), weight, self.predictor.bias)
        return logits.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
