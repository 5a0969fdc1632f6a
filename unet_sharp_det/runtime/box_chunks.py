"""The box head a few thousand proposals at a time, which bounds the memory of crowded images."""

from typing import NamedTuple

import torch
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Boxes
from torch import Tensor, nn

#: Proposals at a time. Of 128 channels and 7 x 7 cells they take 100 MiB.
_CHUNK = 4096


def split_box_head(model: nn.Module) -> None:
    """Let ``model.roi_heads``, if it's a ``StandardROIHeads``, pool and classify boxes in chunks.

    No box sees another one there, so the results are the same. For inference only.
    """
    heads = getattr(model, "roi_heads", None)
    if type(heads) is StandardROIHeads:
        heads.box_head = _ChunkedBoxHead(heads.box_pooler, heads.box_head)
        heads.box_pooler = _Postpone()


class _Unpooled(NamedTuple):
    """What a pooler was called with: maps (N, C, H, W) of each level, boxes of each image."""

    maps: list[Tensor]
    boxes: list[Boxes]


class _Postpone(nn.Module):
    def forward(self, maps: list[Tensor], boxes: list[Boxes]) -> _Unpooled:
        return _Unpooled(maps, boxes)


class _ChunkedBoxHead(nn.Module):
    def __init__(self, pooler: nn.Module, head: nn.Module):
        super().__init__()
        self.pooler = pooler
        self.head = head

    def forward(self, unpooled: _Unpooled) -> Tensor:
        """Return the head's features (M, F) of all boxes."""
        features = []
        for number, boxes in enumerate(unpooled.boxes):
            maps = [level[number : number + 1] for level in unpooled.maps]
            for start in range(0, max(1, len(boxes)), _CHUNK):
                pooled = self.pooler(maps, [boxes[start : start + _CHUNK]])
                features.append(self.head(pooled))
        return torch.cat(features)
