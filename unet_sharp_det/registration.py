"""Registers with detectron2, on import, what configs name: necks, heads, backbones, data sets."""

from .data import catalog, folders  # noqa: F401
from .modeling import (  # noqa: F401
    external_networks,
    sem_seg_head,
    skip_fpn,
    timm_backbone,
    volume_segmentor,
    watershed_segmentor,
)

folders.register_folders()
