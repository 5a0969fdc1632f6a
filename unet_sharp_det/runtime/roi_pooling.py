"""ROIAlign on a CPU as weighted sums of whole pixels, for maps in the channels-last format."""

import math

import torch
import torch.nn.functional as F
from detectron2.layers import ROIAlign
from detectron2.modeling.poolers import (
    ROIPooler,
    assign_boxes_to_levels,
    convert_boxes_to_pooler_format,
)
from detectron2.structures import Boxes
from torch import Tensor, nn

#: Pixels that are added at a time, which bounds the memory of their indices and weights.
_MOST_TAPS = 2**22
#: Above those of any number of samples, so that a pair of exponents is one number.
_MOST_EXPONENT = 64


class PixelROIPooler(nn.Module):
    """What a ``ROIPooler`` that :meth:`computes` allows gives, but for rounding.

    ROIAlign averages bilinear samples. That is linear, so each cell of its output is a weighted
    sum of a few pixels, with the same weights in all channels, and the weights are a product of
    one factor per axis. Where the channels of a pixel lie next to each other (channels-last),
    ``embedding_bag`` adds them as vectors; torchvision's kernel goes channel by channel, and copies
    the maps to the other format first.
    """

    def __init__(self, pooler: ROIPooler):
        super().__init__()
        self.level_poolers = pooler.level_poolers
        self.output_size = pooler.output_size
        levels = (pooler.min_level, pooler.max_level)
        self._assignment = (*levels, pooler.canonical_box_size, pooler.canonical_level)

    @staticmethod
    def computes(module: nn.Module) -> bool:
        """Whether ``module`` is a pooler of ROIAligns whose samples are at most a pixel apart."""
        return type(module) is ROIPooler and all(
            type(level) is ROIAlign and level.sampling_ratio == 0 for level in module.level_poolers
        )

    def forward(self, maps: list[Tensor], boxes: list[Boxes]) -> Tensor:
        """
        Args:
            maps: of each level, (N, C, H, W).
            boxes: of each of N images, in its pixels.

        Returns:
            Tensor: (M, C, height, width) of all M boxes, channels-last, float32.
        """
        rois = convert_boxes_to_pooler_format(boxes)
        pooled = rois.new_empty(len(rois), *self.output_size, maps[0].shape[1])
        level_of = torch.zeros(len(rois), dtype=torch.int64)
        if len(rois) and len(self.level_poolers) > 1:
            level_of = assign_boxes_to_levels(boxes, *self._assignment)
        for level, (x, align) in enumerate(zip(maps, self.level_poolers, strict=True)):
            (index,) = torch.nonzero(level_of == level, as_tuple=True)
            self._pool(x, align, rois, index, pooled)
        return pooled.permute(0, 3, 1, 2)

    def _pool(self, x: Tensor, align: ROIAlign, rois: Tensor, index: Tensor, out: Tensor) -> None:
        """Fill ``out`` (M, height, width, C) at ``index`` from the map ``x`` of a level."""
        pixels = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).float()
        offsets = rois[:, 0].long() * math.prod(x.shape[2:])
        corners = rois[:, 1:] * align.spatial_scale - (0.5 if align.aligned else 0.0)
        sides = corners[:, 2:] - corners[:, :2]
        if not align.aligned:
            sides = sides.clamp(min=1.0)
        cells = sides / sides.new_tensor(self.output_size[::-1])
        # ROIs with like numbers of samples, rounded up to powers of two, are pooled together.
        exponents = cells[index].clamp(min=1).log2().ceil().long()
        pairs = exponents[:, 0] * _MOST_EXPONENT + exponents[:, 1]
        # Without ROIs, a sum of none: every map gets a gradient, as distributed training asks.
        for pair in pairs.unique().tolist() or [0]:
            group = index[pairs == pair]
            most = [2**exponent for exponent in divmod(pair, _MOST_EXPONENT)]
            taps = math.prod(self.output_size) * math.prod(count + 1 for count in most)
            for part in group.split(max(1, _MOST_TAPS // taps)):
                (columns, by_column), (rows, by_row) = (
                    _taps(corners[part, axis], cells[part, axis], bins, size, count)
                    for axis, (bins, size, count) in enumerate(
                        zip(self.output_size[::-1], (x.shape[3], x.shape[2]), most, strict=True)
                    )
                )
                rows = rows * x.shape[3] + offsets[part, None, None]
                indices = rows[:, :, None, :, None] + columns[:, None, :, None, :]
                weights = by_row[:, :, None, :, None] * by_column[:, None, :, None, :]
                bags = (-1, weights.shape[3] * weights.shape[4])
                total = F.embedding_bag(
                    indices.reshape(bags),
                    pixels,
                    per_sample_weights=weights.reshape(bags),
                    mode="sum",
                )
                out[part] = total.view(len(part), *out.shape[1:])


def _taps(start: Tensor, cell: Tensor, bins: int, size: int, most: int) -> tuple[Tensor, Tensor]:
    """The pixels along an axis of a map of ``size`` that the bins of each ROI average.

    Args:
        start, cell: (R,), where ROIs begin and how large their bins are, in pixels of the map. Each
            bin has ceil(cell) samples, ``most`` at most.

    Returns:
        Indices int64 and weights, both (R, bins, most + 1). Weights of a bin add up to 1, less what
        its samples outside of the map had.
    """
    samples = cell.ceil().clamp(min=0)[:, None, None]
    number = torch.arange(most, device=start.device)
    bin_number = torch.arange(bins, device=start.device)[:, None]
    step = (number + 0.5) * cell[:, None, None] / samples.clamp(min=1)
    at = start[:, None, None] + bin_number * cell[:, None, None] + step
    counts = (number < samples) & (at >= -1) & (at <= size)
    at = at.clamp(0, size - 1)
    # Samples are at most a pixel apart, so ``most`` of them lie between most + 1 pixels.
    pixel = at[..., :1].floor() + torch.arange(most + 1, device=start.device)
    shares = (1 - (at[..., None, :] - pixel[..., None]).abs()).clamp(min=0)
    weights = (shares * counts[..., None, :]).sum(dim=-1) / samples.clamp(min=1)
    return pixel.long().clamp(max=size - 1), weights
