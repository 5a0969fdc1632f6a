"""Trained models that come with the package, with the functions of detectron2's ``model_zoo``.

One file a model holds weights and config: ``NAME.safetensors`` in this folder, beside its card
``NAME.md`` (data, measures, limits, licence).
"""

from pathlib import Path

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "zoo": ["get", "get_checkpoint_file", "get_config", "get_config_file", "names"],
    },
)

#: Nuclei of DSB2018, an image of its validation set, which no model of the package was trained on.
SAMPLE = Path(__file__).with_name("sample.png")
