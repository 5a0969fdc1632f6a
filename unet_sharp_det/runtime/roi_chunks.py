"""The box and mask heads some objects at a time, which bounds the memory of crowded images."""

import functools
from collections.abc import Callable

import torch
from detectron2.modeling.roi_heads import BaseMaskRCNNHead, CascadeROIHeads, StandardROIHeads
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

#: Proposals, and detections, at a time. Their maps (of 128 channels and 7 x 7 cells, or 28 x 28)
#: take less than 32 MiB, so that their memory is used again (:mod:`.memory`).
_BOXES, _MASKS = 1024, 64


def split_roi_heads(model: nn.Module) -> None:
    """Let ``model.roi_heads``, if detectron2's standard or Cascade ones, see boxes in chunks.

    No box sees another one there, so the results are the same, but for int8's, whose steps are
    those of a chunk. For inference only.
    """
    heads = getattr(model, "roi_heads", None)
    if type(heads) is CascadeROIHeads:
        heads._run_stage = functools.partial(_run_stage, heads)
    elif type(heads) is StandardROIHeads:
        heads.box_pooler = _ChunkedHead(heads.box_pooler, heads.box_head, _BOXES)
        heads.box_head = nn.Identity()
    else:
        return
    if isinstance(getattr(heads, "mask_head", None), BaseMaskRCNNHead) and heads.mask_pooler:
        heads.mask_pooler = _ChunkedHead(heads.mask_pooler, heads.mask_head.layers, _MASKS)
        heads.mask_head.layers = _same


class _ChunkedHead(nn.Module):
    """A pooler that gives what a head makes of its features, of ``size`` boxes at a time."""

    def __init__(self, pooler: nn.Module, head: Callable[[Tensor], Tensor], size: int):
        super().__init__()
        self.pooler = pooler
        self.head = head
        self.size = size

    def forward(self, maps: list[Tensor], boxes: list[Boxes]) -> Tensor:
        features = []
        for number, of_image in enumerate(boxes):
            levels = [level[number : number + 1] for level in maps]
            for start in range(0, max(1, len(of_image)), self.size):
                pooled = self.pooler(levels, [of_image[start : start + self.size]])
                features.append(self.head(pooled))
        return torch.cat(features)


def _run_stage(heads: CascadeROIHeads, maps: list[Tensor], proposals: list[Instances], stage: int):
    chunked = _ChunkedHead(heads.box_pooler, heads.box_head[stage], _BOXES)
    return heads.box_predictor[stage](chunked(maps, [each.proposal_boxes for each in proposals]))


def _same(features: Tensor) -> Tensor:
    return features
