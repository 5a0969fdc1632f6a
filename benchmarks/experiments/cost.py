"""What a network costs by its config alone: parameters and multiply-adds, without running it."""

from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from detectron2.modeling.roi_heads import CascadeROIHeads
from torch import nn

from benchmarks.measure import multiply_adds
from unet_sharp_det.checkpoints.trained_model import build_on_meta

SIZE = 256
OBJECTS = 100


@dataclass(frozen=True)
class NetworkCost:
    """Parameters; 1e9 multiply-adds of an image in the backbone, and in the whole network.

    The latter with MODEL.RPN.POST_NMS_TOPK_TEST proposals in the box head and ``OBJECTS`` objects
    in the mask head, so that it does not depend on weights.
    """

    parameters: int
    features_gmac: float
    whole_gmac: float


def network_cost(cfg: CfgNode, size: int = SIZE) -> NetworkCost:
    """Count a network's parameters and multiply-adds on torch's meta device.

    Args:
        cfg: of a Mask R-CNN, RetinaNet, Panoptic FPN or semantic model.
        size: side of the image in pixels.
    """
    model = build_on_meta(cfg)
    with torch.device("meta"):
        images = torch.zeros(1, 3, size, size)
        features = {}
        backbone = multiply_adds(lambda: features.update(model.backbone(images)))
        heads = multiply_adds(lambda: _run_heads(model, features, cfg))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return NetworkCost(parameters, backbone / 1e9, (backbone + heads) / 1e9)


def _run_heads(model: nn.Module, features: dict, cfg: CfgNode) -> None:
    if hasattr(model, "sem_seg_head"):
        model.sem_seg_head(features)
    if hasattr(model, "proposal_generator"):
        generator = model.proposal_generator
        generator.rpn_head([features[name] for name in generator.in_features])
        _run_roi_heads(model.roi_heads, cfg)
    elif hasattr(model, "head"):
        model.head([features[name] for name in model.head_in_features])


def _run_roi_heads(heads: nn.Module, cfg: CfgNode) -> None:
    proposals, channels = cfg.MODEL.RPN.POST_NMS_TOPK_TEST, cfg.MODEL.FPN.OUT_CHANNELS
    side = cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION
    regions = torch.zeros(proposals, channels, side, side)
    stages = [(heads.box_head, heads.box_predictor)]
    if isinstance(heads, CascadeROIHeads):
        stages = list(zip(heads.box_head, heads.box_predictor, strict=True))
    for head, predictor in stages:
        predictor(head(regions))
    if cfg.MODEL.MASK_ON:
        side = cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION
        heads.mask_head.layers(torch.zeros(OBJECTS, channels, side, side))
