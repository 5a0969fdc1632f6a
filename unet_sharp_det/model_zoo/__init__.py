"""Trained models that come with the package, with the functions of detectron2's ``model_zoo``.

One file a model holds weights and config: ``NAME.safetensors`` in this folder, beside its card
``NAME.md`` (data, measures, limits, licence).
"""

from .zoo import find_checkpoint, get, get_checkpoint_file, get_config, names

__all__ = ["find_checkpoint", "get", "get_checkpoint_file", "get_config", "names"]
