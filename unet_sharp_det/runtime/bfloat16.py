"""Which devices compute in bfloat16."""

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16 (a CPU AVX512-BF16 or AMX).

    Others emulate it, slowly.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _cpu_has_bfloat16()


def _cpu_has_bfloat16() -> bool:
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return supported is not None and bool(supported())
