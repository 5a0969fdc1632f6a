"""The same network, arranged to run faster."""

import copy
import functools
import logging
from collections.abc import Callable

import torch
from detectron2.modeling.roi_heads import FastRCNNConvFCHead
from torch import Tensor, nn

from ..errors import ConfigError, look_up_option
from .channels_last import use_channels_last
from .convolutions import fold_norms, speed_up_convolutions
from .device import has_bfloat16
from .int8 import Int8Products, has_int8
from .mask_layers import multiply_mask_layers
from .memory import keep_freed_memory
from .roi_chunks import split_roi_heads
from .roi_pooling import PixelROIPooler

AUTO = "auto"
PRECISIONS = (AUTO, "fp32", "bf16", "int8")

logger = logging.getLogger(__name__)

#: The parts that run in another precision, as (module, method); others stay in float32.
_PARTS = (
    ("backbone", "forward"),
    ("proposal_generator.rpn_head", "forward"),
    ("roi_heads.box_head", "forward"),
    ("roi_heads.mask_head", "layers"),
    ("sem_seg_head", "layers"),
    ("sem_seg_head.decoder.grid", "forward"),
    ("head", "forward"),
)


def accelerate(model: nn.Module, *, precision: str = "fp32") -> nn.Module:
    """Copy a model for inference with fewer and better arranged operations.

    With ``fp32`` the results are the same but for rounding (about 1e-5 of a score; on a GPU that of
    TF32, in which torch runs convolutions there). Batch norms become part of the convolutions
    before them, of which on a CPU some take other kernels (:mod:`.convolutions`). There the
    process keeps the memory that it frees (:mod:`.memory`), and models run in the channels-last
    format (:func:`.channels_last.use_channels_last`). What is not known to be the same is left as
    it is, so any detectron2 model may be passed. Run the result in ``torch.inference_mode()``.

    Args:
        model: with its weights; it stays as it is.
        precision: ``fp32``; or ``bf16`` or ``int8`` (see :mod:`.int8`), in which convolutions and
            matrix products are computed: results differ. ``auto``: bf16 on a CPU with AMX, where it
            takes .5 to .7 of the time; fp32 elsewhere.

    Returns:
        nn.Module: of the same class, in eval mode, without gradients.

    Raises:
        ConfigError: unknown precision, or one that the device does not compute natively.
    """
    look_up_option(precision, PRECISIONS, "precision", ConfigError)
    device = next(model.parameters()).device
    available = {"fp32": True, "bf16": has_bfloat16(device), "int8": has_int8(device)}
    if precision == AUTO:
        precision = "bf16" if device.type == "cpu" and available["bf16"] else "fp32"
        if precision == "bf16":
            logger.info("Precision bf16: this CPU has AMX. fp32 is slower, and equal on all CPUs.")
    if not available[precision]:
        names = ", ".join(name for name, is_available in available.items() if is_available)
        raise ConfigError(
            f"precision: this {device.type} device is not fast in {precision}. Available: {names}."
        )
    fast = copy.deepcopy(model).eval().requires_grad_(False)
    fold_norms(fast)
    if device.type == "cpu":
        keep_freed_memory()
        speed_up_convolutions(fast)
        multiply_mask_layers(fast)
        if use_channels_last(fast):
            fast.to(memory_format=torch.channels_last)
            _flatten_pixels(fast)
    if precision != "fp32":
        int8 = Int8Products(fast)
        bf16 = functools.partial(torch.autocast, device.type, torch.bfloat16)
        context = bf16 if precision == "bf16" else lambda: int8
        for name, method in _PARTS:
            _run_in(context, fast, name, method)
    split_roi_heads(fast)
    return fast


def _flatten_pixels(model: nn.Module) -> None:
    """Let box heads flatten what a :class:`PixelROIPooler` gives in the memory's order."""
    for module in list(model.modules()):
        if isinstance(getattr(module, "box_pooler", None), PixelROIPooler):
            box_head = module.box_head
            stages = box_head if isinstance(box_head, nn.ModuleList) else [box_head]
            for head in stages:
                if type(head) is FastRCNNConvFCHead and hasattr(head, "flatten"):
                    _flatten_pixel_by_pixel(head, module.box_pooler.output_size)


class _FlattenPixels(nn.Module):
    """(N, C, H, W) -> (N, H * W * C): no copy of a map whose channels come last."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


def _flatten_pixel_by_pixel(head: FastRCNNConvFCHead, size: tuple[int, int]) -> None:
    """Let the first linear layer take maps of (height, width) ``size`` in the memory's order."""
    linear = head.fc1
    by_channel = linear.weight.view(linear.out_features, -1, *size)
    linear.weight = nn.Parameter(by_channel.permute(0, 2, 3, 1).flatten(1), requires_grad=False)
    head.flatten = _FlattenPixels()


def _run_in(context: Callable, model: nn.Module, name: str, method: str) -> None:
    """Run a part of the model, if it has it, within a context; its results become float32."""
    for attribute in name.split("."):
        model = getattr(model, attribute, None)
    for part in model if isinstance(model, nn.ModuleList) else [model]:  # a Cascade's stages
        function = getattr(part, method, None)
        if function is not None:
            setattr(part, method, _within(context, function))


def _within(context: Callable, function: Callable) -> Callable:
    @functools.wraps(function)
    def run(*args, **kwargs):
        with context():
            return _to_float32(function(*args, **kwargs))

    return run


def _to_float32(value):
    if isinstance(value, Tensor):
        return value.float() if value.dtype == torch.bfloat16 else value
    if isinstance(value, dict):
        return {key: _to_float32(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_float32(item) for item in value)
    return value
