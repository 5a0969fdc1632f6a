"""Registers with detectron2, on import, what configs name: necks, heads, backbones, data sets."""

from .data import catalog  # noqa: F401
from .modeling import external_networks, sem_seg_head, skip_fpn, timm_backbone  # noqa: F401
