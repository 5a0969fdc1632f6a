"""Which formats, precisions and models go together; docs/EXPORT.md says why the others do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import modeling
from ..errors import ConfigError, look_up_option

if TYPE_CHECKING:
    from detectron2.config import CfgNode

#: Format -> ending of its files.
FORMATS = {
    "torch_export": ".pt2",
    "onnx": ".onnx",
    "torchscript": ".ts",
    "safetensors": ".safetensors",
}
_WEIGHTS = {"safetensors": ("fp32", "fp16")}
_MASK_RCNN = {"onnx": ("fp32",), "torchscript": ("fp32",), **_WEIGHTS}
_SEMANTIC = {
    "torch_export": ("fp32", "bf16"),
    "onnx": ("fp32",),
    "torchscript": ("fp32", "bf16"),
    **_WEIGHTS,
}
_AVAILABLE = {
    "GeneralizedRCNN": _MASK_RCNN,
    "SemanticSegmentor": _SEMANTIC,
    "WatershedSegmentor": _SEMANTIC,
    "VolumeSegmentor": {**{name: ("fp32",) for name in FORMATS}, **_WEIGHTS},
}


def check_combination(cfg: CfgNode, file_format: str, precision: str) -> None:
    """Check that a model can be written in a format and precision.

    Raises:
        ConfigError: not that model.
        UserError: the format is unknown, or does not have the precision.
    """
    look_up_option(file_format, FORMATS, "--format")
    architecture = cfg.MODEL.META_ARCHITECTURE
    available = _AVAILABLE.get(architecture, _WEIGHTS)
    if architecture in modeling.PIXEL_WISE and not modeling.is_semantic(cfg):
        architecture, available = cfg.MODEL.SEM_SEG_HEAD.NAME, _WEIGHTS
    if available is _MASK_RCNN and (cfg.MODEL.KEYPOINT_ON or not cfg.MODEL.MASK_ON):
        architecture, available = "an R-CNN without masks or with keypoints", _WEIGHTS
    if file_format not in available:
        raise ConfigError(
            f"--format {file_format}: {architecture} cannot be written as {file_format} "
            f"(docs/EXPORT.md says why). Available: {', '.join(available)}."
        )
    look_up_option(precision, available[file_format], f"--precision with --format {file_format}")
