"""The same network, arranged to run faster: for prediction, and on a CPU for training."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "accelerated": ["accelerate"],
        "channels_last": ["use_channels_last"],
        "device": ["fall_back_to_cpu", "has_bfloat16"],
    },
)
