"""The box head a few thousand proposals at a time, which bounds the memory of crowded images."""

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
        heads.box_pooler = _ChunkedBoxHead(heads.box_pooler, heads.box_head)
        heads.box_head = nn.Identity()


class _ChunkedBoxHead(nn.Module):
    """A pooler that gives the features (M, F) of a box head."""

    def __init__(self, pooler: nn.Module, head: nn.Module):
        super().__init__()
        self.pooler = pooler
        self.head = head

    def forward(self, maps: list[Tensor], boxes: list[Boxes]) -> Tensor:
        features = []
        for number, of_image in enumerate(boxes):
            levels = [level[number : number + 1] for level in maps]
            for start in range(0, max(1, len(of_image)), _CHUNK):
                pooled = self.pooler(levels, [of_image[start : start + _CHUNK]])
                features.append(self.head(pooled))
        return torch.cat(features)
