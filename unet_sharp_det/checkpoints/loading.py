"""Checkpoints: which files can be loaded into which model, and how they are written.

``MODEL.WEIGHTS`` may name

* what :func:`.sources.find_weights` finds: a checkpoint of this package or of detectron2, of a
  whole detector or of an ImageNet backbone (``R-50.pkl``);
* the state dict of a timm or torchvision classification model, for :class:`TimmBackbone`;
* the state dict of a torchvision ResNet, for detectron2's ResNet.
"""

import os
import re
from collections.abc import Callable, Sequence
from urllib.parse import parse_qs

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from fvcore.common.checkpoint import Checkpointer, _IncompatibleKeys, _strip_prefix_if_present
from torch import Tensor, nn

from ..errors import CheckpointError, first_line
from ..files import atomic_path, remove_leftovers, write_text
from ..modeling.segmentation_head import SegmentationHead
from ..modeling.timm_backbone import TimmBackbone
from ..skip_schemes import scheme_module
from .checks import check_trained, check_transferable, find_scheme_difference
from .sources import find_weights
from .weight_files import read_weights

_WRITTEN = re.compile(r"model_\w+\.pth|last_checkpoint")


def scheme_modules(model: nn.Module) -> list[str]:
    """The modules, beside this package, that register the skip schemes of a model."""
    schemes = {getattr(module, "scheme", None) for module in model.modules()}
    return sorted({scheme_module(each) for each in schemes if isinstance(each, str)} - {None})


class SkipCheckpointer(DetectionCheckpointer):
    """detectron2's checkpointer with more formats, atomic files, and a check of the skip scheme."""

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        partial: bool = False,
        trained: bool = False,
        trust_pickle: bool = False,
        class_names: Sequence[str] = (),
        **kwargs,
    ):
        """
        Args:
            partial: load what fits from a checkpoint of another skip scheme, instead of raising.
            trained: load what a training of ``model`` left, all of it and nothing else.
            trust_pickle: see :func:`~.weight_files.read_weights`.
            class_names: of the objects, which saved checkpoints keep.
        """
        super().__init__(model, save_dir, **kwargs)
        self.partial = partial
        self.trained = trained
        self.trust_pickle = trust_pickle
        self.class_names = list(class_names)
        #: Called after a checkpoint was written.
        self.after_save: Callable | None = None

    def save(self, name: str, **kwargs) -> None:
        """Write ``<save_dir>/<name>.pth`` atomically, and tag it as the one to resume from, unless
        it is the best one, which may be older than others."""
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict(), "class_names": self.class_names}
        data["scheme_modules"] = scheme_modules(self.model)
        data.update({key: value.state_dict() for key, value in self.checkpointables.items()})
        data.update(kwargs)
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            try:
                torch.save(data, file)
            except RuntimeError as error:  # Of a cut archive: what cut it stands behind.
                raise error.__context__ or error from None
        if name != "model_best":
            self.tag_last_checkpoint(f"{name}.pth")
        if self.after_save:
            self.after_save()

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict:
        """As in Checkpointer, but a run goes on with a checkpoint of the same model only; deletes
        what killed trainings left half-written in the folder."""
        if self.save_dir and self.save_to_disk:
            remove_leftovers(self.save_dir, _WRITTEN.fullmatch)
        self.trained |= resume and self.has_checkpoint()
        return super().resume_or_load(path, resume=resume)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_text(os.path.join(self.save_dir, "last_checkpoint"), last_filename_basename)

    def load(self, path: str, *args, **kwargs) -> dict:
        """As in DetectionCheckpointer; raises a CheckpointError if the file is none that
        :func:`.weight_files.read_weights` reads, or is not for this model."""
        if self.trained and not path:
            raise CheckpointError("MODEL.WEIGHTS is empty: name the checkpoint of a training.")
        if path:
            name, mark, query = path.partition("?")
            path = f"{find_weights(name)}{mark}{query}"
        try:
            return super().load(path, *args, **kwargs)
        finally:
            self._parsed_url_during_load = None

    def _load_file(self, filename: str) -> dict:
        checkpoint = read_weights(filename, self.trust_pickle)
        if parse_qs(self._parsed_url_during_load.query).get("matching_heuristics") == ["True"]:
            checkpoint["matching_heuristics"] = True
        return checkpoint

    def check(self, path) -> None:
        """Raise what :meth:`load` would of a local file; the model may be on the meta device."""
        self._fit(read_weights(path, self.trust_pickle), f"'{path}'")

    def _load_model(self, checkpoint: dict) -> _IncompatibleKeys:
        self._fit(checkpoint, f"'{self._parsed_url_during_load.geturl()}'")
        return Checkpointer._load_model(self, checkpoint)

    def _fit(self, checkpoint: dict, where: str) -> None:
        """Name the weights as the model does, and check them."""
        weights = checkpoint["model"]
        weights.update({name: torch.as_tensor(value) for name, value in weights.items()})
        _strip_prefix_if_present(weights, "module.")
        if not self.trained and not checkpoint.get("matching_heuristics"):
            checkpoint |= _as_detector_weights(weights, self.model)
        if checkpoint.get("matching_heuristics"):
            checkpoint["model"] = _match_names(checkpoint, self.model, where)
        weights = checkpoint["model"]
        if self.trained:
            return check_trained(weights, self.model, where)
        _adapt_channels(weights, self.model)
        if self.partial:
            _keep_bands(weights, self.model)
        difference = None if self.partial else find_scheme_difference(weights, self.model)
        if difference:
            raise CheckpointError(
                f"{where} is of another network. {difference} Or set MODEL.WEIGHTS_PARTIAL True to "
                "load only what fits."
            )
        check_transferable(weights, self.model, where)


def _adapt_channels(weights: dict[str, Tensor], model: nn.Module) -> None:
    """Let a first convolution of colour pictures see as many channels as that of ``model``, as timm
    does: weights are summed, or repeated and scaled."""
    for name, own in model.state_dict().items():
        given = weights.get(name)
        if given is None or own.ndim != 4 or given.ndim != 4 or own.shape == given.shape:
            continue
        is_first = given.shape[1] == 3 and given.shape[0] == own.shape[0]
        if is_first and given.shape[2:] == own.shape[2:]:
            from timm.models import adapt_input_conv  # Slow to import, and seldom needed.

            weights[name] = adapt_input_conv(own.shape[1], given)


def _keep_bands(weights: dict[str, Tensor], model: nn.Module) -> None:
    """Let a head with other classes of objects take the bands of distance."""
    for prefix, module in model.named_modules():
        if not isinstance(module, SegmentationHead) or not module.labels.finds_objects:
            continue
        bands = module.labels.bands
        for name, own in module.state_dict(prefix=f"{prefix}.").items():
            given = weights.get(name)
            if ".heads." not in name or given is None or own.shape[1:] != given.shape[1:]:
                continue
            if own.shape != given.shape and len(given) >= bands:
                weights[name] = own.clone()
                weights[name][:bands] = given[:bands]


def _match_names(checkpoint: dict, model: nn.Module, where: str) -> dict[str, Tensor]:
    """The weights of a file by the names that ``model`` has for them, as detectron2 finds them."""
    try:
        return align_and_update_state_dicts(
            model.state_dict(),
            checkpoint["model"],
            c2_conversion=checkpoint.get("__author__") == "Caffe2",
        )
    except Exception as error:  # of names and shapes that it takes for granted
        raise CheckpointError(
            f"{where}: its names do not match the model's ({first_line(error)}). Take weights of "
            "the model's backbone, or of its kind."
        ) from error


def _as_detector_weights(weights: dict[str, Tensor], model: nn.Module) -> dict:
    """Rename the weights of a classification model to those of the bottom-up of ``model``."""
    if model.state_dict().keys() & weights.keys():
        return {}
    for prefix, module in model.named_modules():
        if isinstance(module, TimmBackbone):
            renamed = module.convert_weights(weights)
            return {"model": {f"{prefix}.{name}": value for name, value in renamed.items()}}
    if "layer1.0.conv1.weight" in weights:
        renamed = {_torchvision_to_detectron2(name): value for name, value in weights.items()}
        return {"model": renamed, "matching_heuristics": True}
    raise CheckpointError(
        f"MODEL.WEIGHTS: the format is not known; the file begins with {list(weights)[:3]}. Take "
        "a checkpoint of detectron2 or of this package, or a timm or torchvision backbone."
    )


def _torchvision_to_detectron2(name: str) -> str:
    """layer1.0.bn2.weight -> res2.0.conv2.norm.weight, conv1.weight -> stem.conv1.weight, ..."""
    if not name.startswith("layer"):
        name = f"stem.{name}"
    name = re.sub(r"layer(\d)", lambda match: f"res{int(match[1]) + 1}", name)
    name = re.sub(r"bn(\d)", r"conv\1.norm", name)
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
