"""Convolutions and matrix products in 8-bit integers, on CPUs that have instructions for them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torch.overrides import TorchFunctionMode

from .convolutions import CONVOLVE

#: Of fewer input or output channels, float32 is as fast. Last layers have few, and stay exact.
_LEAST_CHANNELS = 32


def has_int8(device: torch.device) -> bool:
    """Whether the device multiplies 8-bit integers faster than floats: on a CPU, by AVX-512 VNNI.

    Others saturate the sums of two products in 16 bits, which is another result.
    """
    supported = getattr(torch.cpu, "_is_vnni_supported", lambda: False)
    has_kernels = hasattr(torch.ops.onednn, "qconv2d_pointwise")
    return device.type == "cpu" and has_kernels and bool(supported())


class Int8Products(TorchFunctionMode):
    """Within it, 2D convolutions and linear layers by a model's weights multiply 8-bit integers.

    A weight is an integer of -127 to 127 times a factor of its output channel; an input an integer
    of 0 to 255, less its zero point, times a factor of the tensor. Both factors are from the least
    and the largest value (post-training quantisation, the inputs' "dynamic": Jacob et al. 2018,
    Eq. 1). Sums are exact; what is between the products stays in float32. An image is quantised by
    its batch, so give one at a time where it should not depend on others.

    Example::

        with torch.inference_mode(), Int8Products(model):
            features = model(images)
    """

    def __init__(self, model: nn.Module):
        """
        Args:
            model: in eval mode. Its weights must stay as they are from now on.
        """
        super().__init__()
        self._storages = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self._weights: dict[tuple, tuple[Tensor, Tensor, Tensor]] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.conv2d and self._pays(*args[:2]):
            return self._convolve(*args, **kwargs)
        if func is CONVOLVE and self._pays(*args[:2]):
            return self._convolve_fused(*args)
        if func is F.linear and self._pays(*args[:2]):
            return self._multiply(*args, **kwargs)
        return func(*args, **kwargs)

    def _pays(self, x: Tensor, weight: Tensor) -> bool:
        is_own = weight.untyped_storage().data_ptr() in self._storages
        return is_own and min(weight.shape[:2]) >= _LEAST_CHANNELS and x.numel() > 0

    def _convolve(self, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:
        if isinstance(padding, str):
            return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
        sizes = [list(_pair(each)) for each in (padding, stride, dilation)]
        return self._convolve_fused(x, weight, bias, *sizes, groups, "none", [], "")

    def _convolve_fused(self, x, weight, bias, *others) -> Tensor:
        padding, stride, dilation, groups, *post_op = others
        if groups > 1:
            return CONVOLVE(x, weight, bias, *others)
        sizes = [stride, padding, dilation]
        x = x.contiguous(memory_format=torch.channels_last)
        x, scale, zero = _quantise(x.permute(0, 2, 3, 1))
        packed = self._packed(
            weight, lambda *each: torch.ops.onednn.qconv_prepack(*each, 1.0, 1, *sizes, 1, None)
        )
        return torch.ops.onednn.qconv2d_pointwise(
            x.permute(0, 3, 1, 2), scale, zero, *packed, bias, *sizes, 1, *_FLOAT_OUTPUT, *post_op
        )

    def _multiply(self, x, weight, bias=None) -> Tensor:
        x, scale, zero = _quantise(x.contiguous())
        packed = self._packed(weight, lambda each, _: torch.ops.onednn.qlinear_prepack(each, None))
        return torch.ops.onednn.qlinear_pointwise(
            x, scale, zero, *packed, bias, *_FLOAT_OUTPUT, "none", [], ""
        )

    def _packed(self, weight: Tensor, pack: Callable) -> tuple[Tensor, Tensor, Tensor]:
        """Return a kernel's weights, and the factors and zero points of their output channels.

        They are kept: of a weight all products are of one kind.
        """
        key = (weight.data_ptr(), weight.shape, weight.stride())
        if key not in self._weights:
            quantised, scales, zeros = _quantise_by_channel(weight)
            self._weights[key] = pack(quantised, scales), scales, zeros
        return self._weights[key]


#: Scale, zero point and type of the output.
_FLOAT_OUTPUT = (1.0, 0, torch.float32)


def _quantise(x: Tensor) -> tuple[Tensor, float, int]:
    """Return contiguous ``x`` as uint8, and its factor and zero point: 0 stays exact."""
    low, high = (float(value) for value in torch.aminmax(x))
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    zero = round(-low / scale)
    quantised = torch.quantize_per_tensor(x, scale, zero, torch.quint8)
    as_bytes = torch.empty(0, dtype=torch.uint8)  # int_repr() would copy
    as_bytes.set_(quantised.untyped_storage(), 0, x.shape, x.stride())
    return as_bytes, scale, zero


def _quantise_by_channel(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return int8 weights, and the factors and zero points of their output channels."""
    scales = weight.abs().flatten(1).amax(1).clamp_min(1e-12) / 127
    quantised = (weight / scales.view(-1, *[1] * (weight.dim() - 1))).round().to(torch.int8)
    return quantised, scales, torch.zeros(len(scales), dtype=torch.int64)
