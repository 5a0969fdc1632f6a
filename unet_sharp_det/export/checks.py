"""Whether a written file computes what the model does."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from detectron2.modeling import GeneralizedRCNN
from torch import Tensor, nn

from ..errors import UserError
from ..modeling.watershed_segmentor import pixel_probabilities

#: Difference in probability that a file of that precision may have: at most, or in the mean, for
#: bf16 changes single pixels by far more than the others.
BOUNDS = {"fp32": ("max", 1e-3), "bf16": ("mean", 1e-2)}
#: Mask R-CNN: pixels, and probabilities of scores and masks.
BOX_BOUND, SCORE_BOUND = 0.5, 1e-2


@dataclass(frozen=True)
class Check:
    """The difference, ``max`` or ``mean``, for images of a shape (N, C, H, W), and its bound."""

    shape: tuple[int, ...]
    measure: str
    difference: float
    bound: float

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.shape))
        return f"{shape}: {self.measure} |difference| {self.difference:.2e} (bound {self.bound:g})"


def check_probabilities(
    found: Callable[[Tensor], Tensor], model: nn.Module, smallest: int, precision: str
) -> list[Check]:
    """Compare a written semantic model with the one that it was made of.

    Args:
        found: images (N, channels, H, W) -> probabilities (N, C, H, W), of the file.
        model: ``SemanticSegmentor`` or :class:`.WatershedSegmentor` in eval mode.
        smallest: least side of the images.
        precision: of the file.

    Raises:
        UserError: they differ by more than the bound.
    """
    sizes = [(1, smallest, smallest + 7), (2, smallest + 15, smallest + 30), (3, 64, 96)]
    checks = []
    for number, height, width in sizes:
        sides = (len(model.pixel_mean), max(height, smallest), max(width, smallest))
        images = torch.stack([blobs(*sides, seed) for seed in range(number)])
        with torch.no_grad():
            records = [{"image": image} for image in images]
            expected = torch.stack(pixel_probabilities(model, records))
        checks.append(_judge(images, found(images), expected, *BOUNDS[precision]))
    return checks


def check_patches(found: Callable[[Tensor], Tensor], module: nn.Module) -> list[Check]:
    """Compare a written :class:`.PatchModel` with the module, as :func:`check_probabilities`."""
    checks = []
    for patches in map(module.example, (1, 2, 3)):
        with torch.no_grad():
            checks.append(_judge(patches, found(patches), module(patches), *BOUNDS["fp32"]))
    return checks


def check_detections(found: Callable, model: GeneralizedRCNN, size: tuple[int, int]) -> list[Check]:
    """Compare a traced Mask R-CNN with the model, on another image and on one of another size.

    Args:
        found: image (C, H, W) -> boxes, classes, masks, scores, (height, width).
        model: in eval mode.
        size: (height, width) that it was traced with.

    Raises:
        UserError: they find other objects.
    """
    checks = []
    channels = len(model.pixel_mean)
    for seed, sides in enumerate([size, (size[0] + 37, size[1] - 21)], 1):
        image = blobs(channels, *sides, seed)
        with torch.no_grad():
            boxes, classes, masks, scores, _ = found(image)
            fields = model.inference([{"image": image}], do_postprocess=False)[0].get_fields()
        pairs = [
            (boxes, fields["pred_boxes"].tensor, BOX_BOUND),
            (classes, fields["pred_classes"], 0),
            (scores, fields["scores"], SCORE_BOUND),
            (masks, fields["pred_masks"], SCORE_BOUND),
        ]
        results = [
            _judge(image[None], value.float(), expected.float(), "max", bound)
            for value, expected, bound in pairs
        ]
        checks.append(max(results, key=lambda check: check.difference))
    return checks


def blobs(channels: int, height: int, width: int, seed: int) -> Tensor:
    """An image (channels, height, width) of bright discs on dark noise, values 0..255."""
    random = torch.Generator().manual_seed(seed)
    image = 20 + 10 * torch.rand(height, width, generator=random)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    for y, x, r in torch.rand(height * width // 1000 + 2, 3, generator=random).tolist():
        disc = (rows - y * height) ** 2 + (columns - x * width) ** 2 < (3 + 8 * r) ** 2
        image[disc] += 100
    colours = torch.linspace(0.8, 1.0, channels)[:, None, None]
    return (image * colours).clamp(0, 255).round()


def _judge(images: Tensor, found: Tensor, expected: Tensor, measure: str, bound: float) -> Check:
    if found.shape != expected.shape:
        raise UserError(
            f"for images {tuple(images.shape)} the exported model gives {tuple(found.shape)}, the "
            f"model {tuple(expected.shape)}: nothing was written. Please report it."
        )
    differences = (found - expected).abs()
    difference = getattr(differences, measure)().item() if found.numel() else 0.0
    check = Check(tuple(images.shape), measure, difference, bound)
    if not difference <= bound:
        raise UserError(
            f"the exported model differs from the model on images {check}: nothing was written. "
            "Please report it, and use safetensors."
        )
    return check
