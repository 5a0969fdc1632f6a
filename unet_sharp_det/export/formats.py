"""Which formats, precisions and models go together, and why the others do not."""

from importlib import import_module

from detectron2.config import CfgNode

from ..errors import ConfigError, UserError, look_up_option

#: Format -> ending of its files.
FORMATS = {
    "torch_export": ".pt2",
    "onnx": ".onnx",
    "torchscript": ".ts",
    "safetensors": ".safetensors",
}
#: Format -> the precisions of semantic models in it.
PRECISIONS = {
    "torch_export": ("fp32", "bf16"),
    "onnx": ("fp32",),
    "torchscript": ("fp32", "bf16"),
    "safetensors": ("fp32", "fp16"),
}
_ALL_PRECISIONS = ("fp32", "bf16", "fp16", "int8")
_NO_INT8 = "int8 was measured and does not pay (docs/EXPORT.md)"
_WHY_NOT = {
    ("torch_export", "fp16"): "CPUs have no fast fp16 convolutions; bf16 is what they have",
    ("torch_export", "int8"): _NO_INT8,
    ("onnx", "int8"): _NO_INT8,
    ("onnx", "bf16"): "ONNX Runtime has no bf16 convolution on the CPU",
    ("onnx", "fp16"): "ONNX Runtime computes fp16 convolutions on the CPU in fp32, slower",
    ("torchscript", "fp16"): "CPUs have no fast fp16 convolutions; bf16 is what they have",
    ("torchscript", "int8"): _NO_INT8,
    ("safetensors", "bf16"): "its 8 bits of mantissa cost accuracy that fp16, as small, keeps",
    ("safetensors", "int8"): _NO_INT8,
}
_WHY_NO_DETECTOR = {
    "onnx": "its ROIAlign and NMS have no exporter that was checked against the model",
    "torch_export": "the number of its boxes depends on the values of the image",
}


def is_semantic(cfg: CfgNode) -> bool:
    """Whether the config is of a semantic network with :class:`UNetSharpHead`."""
    model = cfg.MODEL
    return (
        model.META_ARCHITECTURE == "SemanticSegmentor"
        and model.SEM_SEG_HEAD.NAME == "UNetSharpHead"
    )


def check_combination(
    cfg: CfgNode, file_format: str, precision: str, level: int | None = None
) -> None:
    """Check that a model can be written in a format and precision, and has levels if one is wanted.

    Raises:
        ConfigError: not that model; the message says in which formats it can.
        UserError: the format or precision is unknown, or they do not go together.
    """
    look_up_option(file_format, FORMATS, "--format")
    look_up_option(precision, _ALL_PRECISIONS, "--precision")
    if precision not in PRECISIONS[file_format]:
        raise UserError(
            f"--precision {precision} with --format {file_format}: "
            f"{_WHY_NOT[file_format, precision]}. {file_format} has "
            f"{', '.join(PRECISIONS[file_format])}."
        )
    if level is not None and not is_semantic(cfg):
        raise ConfigError(
            f"--level {level}: MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}, but only "
            "a semantic network has levels (SemanticSegmentor with UNetSharpHead)."
        )
    if file_format == "safetensors" or is_semantic(cfg):
        return
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture != "GeneralizedRCNN":
        raise ConfigError(
            f"--format {file_format}: MODEL.META_ARCHITECTURE is {architecture}, which goes into "
            "safetensors only; SemanticSegmentor with UNetSharpHead goes into "
            f"{', '.join(FORMATS)}, GeneralizedRCNN into torchscript and safetensors."
        )
    if file_format in _WHY_NO_DETECTOR:
        raise ConfigError(
            f"--format {file_format}: GeneralizedRCNN (Mask R-CNN) cannot be written as "
            f"{file_format}: {_WHY_NO_DETECTOR[file_format]}. Available: torchscript, safetensors."
        )
    if precision != "fp32":
        raise ConfigError(
            f"--precision {precision}: GeneralizedRCNN is traced in fp32 only, since rounding "
            "moves boxes past thresholds."
        )


def need(package: str):
    """Import what the extra ``export`` installs.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise UserError(
            f"--format onnx needs {package}: pip install 'unet_sharp_det[export]'."
        ) from error
