"""The door to trained models: files are found, checked, read without running what is in them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": ["config_of"],
        "loading": ["SkipCheckpointer"],
        "sources": ["find_weights"],
        "trained_model": [
            "TrainedModel",
            "identify_model",
            "load_trained_model",
            "open_trained_model",
        ],
        "weight_files": ["read_weights", "write_safetensors"],
    },
)
