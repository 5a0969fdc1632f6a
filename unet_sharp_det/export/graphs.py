"""Writers of graphs: each takes a module and the place, and returns the function that the file is.

All hold for any batch, and of images for any size from the module's ``smallest_side`` on.
"""

import io
import json
import logging
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch
from detectron2.export import TracingAdapter
from detectron2.modeling import GeneralizedRCNN
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..errors import UserError, first_line
from .checks import blobs
from .metadata import METADATA_FILE
from .probability_model import PatchModel, ProbabilityModel

#: The version of ONNX's operators in the files.
OPSET = 18
INPUT, OUTPUT = "images", "probabilities"
DETECTIONS = ["boxes", "classes", "masks", "scores", "size"]


def export_program(module: ProbabilityModel | PatchModel) -> ExportedProgram:
    """Capture the module as a graph for any size of its ``free_axes``.

    Raises:
        UserError: the encoder computes something that depends on the size.
    """
    axes = {
        axis: Dim(name, min=least, max=most)
        for axis, (name, least, most) in module.free_axes.items()
    }
    # torch.export cannot prove what holds for windows of any size: the graph checks it when run.
    options = {"prefer_deferred_runtime_asserts_over_guards": True} if module.has_windows else {}
    try:
        with _quiet():
            return torch.export.export(
                module, (module.example(2),), dynamic_shapes=(axes,), **options
            )
    except torch._dynamo.exc.UserError as error:
        raise UserError(
            f"the encoder has no graph for all image sizes (torch.export: {first_line(error)}). "
            "Use --format safetensors."
        ) from error


def write_torch_export(
    module: ProbabilityModel | PatchModel, path: Path, metadata: dict[str, str]
) -> Callable[[Tensor], Tensor]:
    """Write ``path`` (.pt2) for ``torch.export.load``, and return what was read back."""
    files = {METADATA_FILE: json.dumps(metadata)}
    with _quiet():
        torch.export.save(export_program(module), path, extra_files=files)
        return torch.export.load(path).module()


def write_torchscript(
    module: nn.Module, example: Tensor, path: Path, metadata: dict[str, str]
) -> Callable:
    """Trace a module, write ``path`` for ``torch.jit.load``, and return what was read back."""
    with _quiet(), torch.no_grad():
        traced = torch.jit.trace(module, (example,), check_trace=False)
        torch.jit.save(traced, path, _extra_files={METADATA_FILE: json.dumps(metadata)})
        return torch.jit.load(path)


def traceable_detector(model: GeneralizedRCNN, size: tuple[int, int]) -> tuple[nn.Module, Tensor]:
    """Wrap Mask R-CNN for tracing; with the example image (channels, height, width).

    The result gives boxes (N, 4), classes (N,), masks (N, 1, 28, 28) of the boxes, scores (N,) and
    the image's (height, width). Pasting the masks into the image stays outside.
    """

    def infer(model: GeneralizedRCNN, inputs: list[dict]) -> list[dict]:
        return [{"instances": model.inference(inputs, do_postprocess=False)[0]}]

    image = blobs(len(model.pixel_mean), *size, seed=0)
    adapter = TracingAdapter(model, [{"image": image}], infer)
    return adapter.eval().requires_grad_(False), image


def write_onnx(
    module: ProbabilityModel | PatchModel, path: Path, metadata: dict[str, str]
) -> Callable[[Tensor], Tensor]:
    """Write ``path`` (.onnx, opset :data:`OPSET`), check it, and return ONNX Runtime's function."""
    import onnxscript  # noqa: F401  torch's exporter imports it late.

    with _quiet():
        proto = torch.onnx.export(
            export_program(module),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({axis: name for axis, (name, *_) in module.free_axes.items()},),
            verbose=False,
        ).model_proto
    run = _save_onnx(proto, path, metadata)
    return lambda images: run(images)[0]


def write_onnx_detector(
    module: nn.Module, example: Tensor, path: Path, metadata: dict[str, str]
) -> Callable[[Tensor], list[Tensor]]:
    """As :func:`write_onnx`, of what :func:`traceable_detector` gives."""
    import onnx

    file, objects = io.BytesIO(), {name: {0: "objects"} for name in DETECTIONS[:-1]}
    with _quiet(), torch.no_grad():
        # torch.export cannot: the numbers of boxes depend on the image.
        torch.onnx.export(
            module,
            (example,),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=DETECTIONS,
            dynamic_axes={"image": {1: "height", 2: "width"}, **objects},
        )
    return _save_onnx(onnx.load_from_string(file.getvalue()), path, metadata)


def _save_onnx(proto, path: Path, metadata: dict[str, str]) -> Callable[[Tensor], list[Tensor]]:
    import onnx
    import onnxruntime

    onnx.helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save_model(proto, str(path))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (name,) = [each.name for each in session.get_inputs()]
    return lambda images: [torch.from_numpy(o) for o in session.run(None, {name: images.numpy()})]


@contextmanager
def _quiet():
    """Exporters warn of their own internals, of which a user can change nothing."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
