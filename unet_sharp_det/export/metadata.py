"""What a file must say about itself, so that another program feeds it rightly."""

import json

from detectron2.config import CfgNode

from .. import __version__
from ..checkpoints.class_names import class_names
from ..modeling import is_semantic

#: Name of the JSON beside the graph in .pt2 and .ts files.
METADATA_FILE = "metadata.json"


def describe(cfg: CfgNode, precision: str, level: int | None) -> dict[str, str]:
    """The metadata of an exported model, cut to L_``level`` if that is not None."""
    common = {
        "producer": f"unet_sharp_det {__version__}",
        **(_patches(cfg) if cfg.MODEL.META_ARCHITECTURE == "VolumeSegmentor" else _images(cfg)),
        "normalisation": "inside",
        "pixel_mean": json.dumps(list(cfg.MODEL.PIXEL_MEAN)),
        "pixel_std": json.dumps(list(cfg.MODEL.PIXEL_STD)),
        "precision": precision,
    }
    if not is_semantic(cfg):
        if cfg.MODEL.BACKBONE.NAME == "build_skip_fpn_backbone":
            common["scheme"] = cfg.MODEL.FPN.SKIP_SCHEME
        return {**common, "class_names": json.dumps(class_names(cfg))}
    head = cfg.MODEL.SEM_SEG_HEAD
    is_softmax = head.ACTIVATION == "softmax"
    background = ["background"] if is_softmax else []
    threshold = {} if is_softmax else {"probability_threshold": f"{head.PROB_THRESHOLD:g}"}
    return {
        **common,
        "output": f"probabilities, {head.ACTIVATION}",
        **threshold,
        "target": head.TARGET,
        "class_names": json.dumps([*background, *class_names(cfg)]),
        "scheme": head.SKIP_SCHEME,
        "level": "whole" if level is None else str(level),
        "inference": head.INFERENCE,
    }


def _images(cfg: CfgNode) -> dict[str, str]:
    return {
        "input_order": cfg.INPUT.FORMAT,
        "input_range": "0..255",
        "contrast_stretch_expected": str(cfg.INPUT.STRETCH_CONTRAST).lower(),
        "scale_expected": str(cfg.INPUT.SCALE_TEST or f"shorter side {cfg.INPUT.MIN_SIZE_TEST}"),
    }


def _patches(cfg: CfgNode) -> dict[str, str]:
    keys = ("PATCH_SIZE", "SPACING", "WINDOW")
    return {key.lower(): json.dumps(list(cfg.INPUT.VOLUME[key])) for key in keys}
