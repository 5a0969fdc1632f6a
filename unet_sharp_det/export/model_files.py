"""From a checkpoint to a checked file."""

from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode
from torch import nn

from ..checkpoints.loading import scheme_modules
from ..checkpoints.trained_model import open_trained_model
from ..checkpoints.weight_files import write_safetensors
from ..errors import UserError
from ..files import atomic_path
from ..modeling import is_semantic
from ..modeling.pruning import cut_to_level
from ..modeling.volume_segmentor import VolumeSegmentor
from .checks import Check, check_detections, check_patches, check_probabilities
from .formats import FORMATS, check_combination
from .graphs import (
    traceable_detector,
    write_onnx,
    write_onnx_detector,
    write_torch_export,
    write_torchscript,
)
from .metadata import describe
from .probability_model import PatchModel, ProbabilityModel

#: (height, width) of the image that Mask R-CNN is traced with; the trace holds for others too.
TRACED_SIZE = (256, 224)


@dataclass(frozen=True)
class ExportRequest:
    """What to write.

    Attributes:
        checkpoint: of the training.
        file_format: of :data:`FORMATS`.
        precision: ``fp32``, ``bf16`` or ``fp16``, as docs/EXPORT.md offers it.
        level, mode: k, to cut a semantic network to L_k, and ``fast`` or ``accurate``.
        config_file: None: the one in or beside the checkpoint.
        output: None: beside the checkpoint, named by it, the level, the precision and the format.
        trust_pickle: see :func:`unet_sharp_det.checkpoints.weight_files.read_weights`.
    """

    checkpoint: Path
    file_format: str
    precision: str = "fp32"
    level: int | None = None
    mode: str = "fast"
    config_file: Path | None = None
    output: Path | None = None
    trust_pickle: bool = False

    @property
    def path(self) -> Path:
        """The file to write."""
        if self.output is not None:
            return Path(self.output)
        level = "" if self.level is None else f"_L{self.level}"
        precision = "" if self.precision == "fp32" else f"_{self.precision}"
        name = f"{Path(self.checkpoint).stem}{level}{precision}{FORMATS[self.file_format]}"
        return Path(self.checkpoint).parent / name


def export_model(request: ExportRequest) -> list[Check]:
    """Write a trained model to ``request.path``, atomically and only if it passes its checks.

    Returns:
        list[Check]: the differences to the model that were found; none for safetensors.

    Raises:
        UserError: config, checkpoint, level, format, precision or place is unusable, or the file
            computes something else than the model.
    """
    trained = open_trained_model(
        request.checkpoint, request.config_file, device="cpu", trust_pickle=request.trust_pickle
    )
    model, cfg = trained.model, trained.cfg
    check_combination(cfg, request.file_format, request.precision)
    _check_request(request)
    if request.level is not None:
        model, cfg = cut_to_level(model, cfg, request.level, request.mode)
    if request.file_format == "safetensors":
        config, half = _portable(cfg).dump(), request.precision == "fp16"
        modules = scheme_modules(model)
        write_safetensors(request.path, model.state_dict(), config, half, modules)
        return []
    metadata = describe(cfg, request.precision, request.level)
    with atomic_path(request.path) as temporary:
        if is_semantic(cfg):
            return _write_semantic(model, request, temporary, metadata)
        module, example = traceable_detector(model, TRACED_SIZE)
        is_onnx = request.file_format == "onnx"
        write = write_onnx_detector if is_onnx else write_torchscript
        found = write(module, example, temporary, metadata)
        return check_detections(found, model, TRACED_SIZE)


def _portable(cfg: CfgNode) -> CfgNode:
    """A copy that names no place of the machine that trained, and runs where it is."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = "./output"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.DEVICE = "cuda"
    cfg.DATASETS.PROPOSAL_FILES_TRAIN = ()
    cfg.DATASETS.PROPOSAL_FILES_TEST = ()
    return cfg


def _write_semantic(
    model: nn.Module, request: ExportRequest, path: Path, metadata: dict[str, str]
) -> list[Check]:
    of_volumes = isinstance(model, VolumeSegmentor)
    module = PatchModel(model) if of_volumes else ProbabilityModel(model, request.precision)
    if request.file_format == "torchscript":
        found = write_torchscript(module, module.example(1), path, metadata)
    else:
        write = write_onnx if request.file_format == "onnx" else write_torch_export
        found = write(module, path, metadata)
    if of_volumes:
        return check_patches(found, module)
    return check_probabilities(found, model, module.smallest_side, request.precision)


def _check_request(request: ExportRequest) -> None:
    if request.level is None and request.mode != "fast":
        raise UserError(
            f"--mode {request.mode}: is of a network that --level cuts. Give a level, or no mode."
        )
    ending = FORMATS[request.file_format]
    if request.path.suffix != ending:
        raise UserError(
            f"--output {request.path}: files of --format {request.file_format} end in {ending}."
        )
    if request.path.resolve() == Path(request.checkpoint).resolve():
        raise UserError(f"--output {request.path}: is the checkpoint itself. Name another file.")
