"""Static int8 quantisation of an ONNX file, calibrated on images of the user's."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor

from ..errors import DatasetError, UserError
from ..prediction.image_source import open_image
from ..prediction.intensity import prepare
from .checks import Check
from .formats import need
from .graphs import INPUT, onnx_function, save_onnx

#: Images used of the folder, and their largest side; of a larger one the middle is taken.
MOST_IMAGES, LARGEST_SIDE = 32, 256
#: Mean absolute difference in probability to fp32 on the calibration images.
BOUND = 0.02


def calibration_images(folder: Path, cfg: CfgNode, smallest: int) -> list[Tensor]:
    """Read images (1, channels, H, W) of a folder as the model sees them.

    Raises:
        DatasetError: the folder has no images, or one cannot be read.
    """
    paths = sorted(path for path in Path(folder).glob("*") if path.is_file())[:MOST_IMAGES]
    if not paths:
        raise DatasetError(f"--calibration {folder}: there are no images in this folder.")
    images = []
    for path in paths:
        for source in open_image(path):
            prepared = prepare(source, cfg.INPUT.FORMAT, cfg.INPUT.STRETCH_CONTRAST)
            pixels = prepared.window(*(_middle(n) for n in prepared.shape))
            if min(pixels.shape[:2]) >= smallest:
                images.append(_as_batch(pixels))
    if not images:
        raise DatasetError(f"--calibration {folder}: no image has {smallest} pixels on each side.")
    return images


def quantize(
    source: Path, target: Path, images: list[Tensor], metadata: dict[str, str]
) -> tuple[Callable[[Tensor], Tensor], Check]:
    """Write ``source`` (.onnx, fp32) as ``target`` with convolutions in int8, and compare them.

    The first convolution, which sees the image, and those that give logits or resize maps to
    probabilities stay in fp32.

    Raises:
        UserError: the mean difference in probability on the images is beyond :data:`BOUND`.
    """
    onnx, quantization = need("onnx"), need("onnxruntime.quantization")
    quantization.quantize_static(
        str(source),
        str(target),
        _Reader(images),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=_kept(onnx.load(str(source))),
        per_channel=True,
        weight_type=quantization.QuantType.QInt8,
        activation_type=quantization.QuantType.QUInt8,
    )
    save_onnx(onnx.load(str(target)), target, metadata)
    exact, rough = onnx_function(source), onnx_function(target)
    differences = [(exact(image) - rough(image)).abs().mean().item() for image in images]
    check = Check(tuple(images[0].shape), max(differences), BOUND)
    if not check.difference <= BOUND:
        raise UserError(
            f"int8 differs from fp32 by {check.difference:.3f} in the mean probability of a "
            f"calibration image (bound {BOUND}): nothing was written. Give images like those of "
            "the training by --calibration, or use --precision fp32."
        )
    return rough, check


def _kept(proto) -> list[str]:
    """The first convolution, and those with few channels out: the logits."""
    shapes = {tensor.name: tensor.dims for tensor in proto.graph.initializer}
    convs = [node for node in proto.graph.node if node.op_type == "Conv"]
    logits = [node.name for node in convs if shapes.get(node.input[1], [99])[0] < 8]
    return [convs[0].name, *logits]


class _Reader:
    """onnxruntime's CalibrationDataReader."""

    def __init__(self, images: list[Tensor]):
        self._images: Iterator[Tensor] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {INPUT: image.numpy()}


def _middle(size: int) -> slice:
    start = max(size - LARGEST_SIDE, 0) // 2
    return slice(start, min(start + LARGEST_SIDE, size))


def _as_batch(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float()[None]
