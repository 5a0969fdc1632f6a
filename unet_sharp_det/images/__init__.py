"""Images of any format: read whole for training, window by window for prediction."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "decoding": ["read_image", "read_labels"],
        "source": ["ImageSource", "ReadOptions", "from_array", "open_image"],
    },
)
