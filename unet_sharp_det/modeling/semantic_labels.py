"""What the labels of a semantic map mean to a model's output channels.

A *label map* holds one integer per pixel: 0 is background, 255 (``ignore_value``) is left out of
losses and metrics. :class:`SemanticLabels` says which labels there may be, which channels they
make, and how channels become a prediction.
"""

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError, DatasetError, look_up_option

ACTIVATIONS = ("sigmoid", "softmax")
TARGETS = ("labels", "distance")
#: Of all classes: labels are painted as uint8, and 255 is left out.
_MOST_BANDS = 254
#: The MODEL.META_ARCHITECTUREs without boxes: all that they know is said by SemanticLabels.
PIXEL_WISE = ("SemanticSegmentor", "WatershedSegmentor", "VolumeSegmentor")


def is_semantic(cfg) -> bool:
    """Whether a config is of a network of pixels, or voxels, with a head of this package."""
    model = cfg.MODEL
    heads = ("UNetSharpHead", "SegNetrHead")
    return model.META_ARCHITECTURE in PIXEL_WISE and model.SEM_SEG_HEAD.NAME in heads


@dataclass(frozen=True)
class SemanticLabels:
    """The channels of a semantic head and the labels that they stand for.

    * ``sigmoid``: every channel is a yes-or-no map of its own. Channel c stands for label c + 1, or
      for the labels of ``regions[c]``, which may overlap: BraTS' whole tumour, tumour core and
      enhancing tumour are ``[[1, 2, 4], [1, 4], [4]]`` with 3 classes. One channel is binary.
    * ``softmax``: exactly one channel holds at a pixel. Channel c stands for label c; 0 is
      background and counts among ``num_classes``.
    * ``target`` "distance": labels are bands of distance to the edge of an object, of which objects
      are made (:mod:`.masks.watershed`). Channel c stands for all bands above c. Of several classes
      of objects each has bands of its own, one class after the other; then the last
      ``class_channels`` channels say the class of an object's pixel, exactly one, and those before
      stand for the bands of any class.

    Attributes:
        num_classes: number of channels.
        activation: ``sigmoid`` or ``softmax``.
        regions: labels of each channel; empty: channel c is label c + 1.
        ignore_value: label of the pixels to leave out.
        target: what labels stand for: "labels" for classes, or "distance".
        class_channels: with "distance" the number of classes, or 0 if there is but one.
        threshold: with ``sigmoid``, a channel holds from this probability on.

    Raises:
        ConfigError: the values contradict each other.
    """

    num_classes: int = 1
    activation: str = "sigmoid"
    regions: tuple[tuple[int, ...], ...] = ()
    ignore_value: int = 255
    target: str = "labels"
    class_channels: int = 0
    threshold: float = 0.5

    def __post_init__(self):
        look_up_option(self.target, TARGETS, "SEM_SEG_HEAD.TARGET", ConfigError)
        if self.finds_objects:
            self._make_bands()
        look_up_option(self.activation, ACTIVATIONS, "SEM_SEG_HEAD.ACTIVATION", ConfigError)
        least = 2 if self.activation == "softmax" else 1
        if self.num_classes < least:
            raise ConfigError(
                f"SEM_SEG_HEAD.NUM_CLASSES is {self.num_classes}, but '{self.activation}' needs "
                f"{least} or more (softmax counts the background)."
            )
        if self.regions and self.activation == "softmax":
            raise ConfigError("SEM_SEG_HEAD.REGIONS may overlap, so they need 'sigmoid'.")
        if not all(isinstance(region, Sequence) and region for region in self.regions):
            raise ConfigError(
                f"SEM_SEG_HEAD.REGIONS is {list(self.regions)}. Give each channel a list of its "
                "labels, as [[1, 2], [2]]."
            )
        if self.regions and len(self.regions) != self.num_classes:
            raise ConfigError(
                f"SEM_SEG_HEAD.REGIONS has {len(self.regions)} regions, NUM_CLASSES is "
                f"{self.num_classes}: one channel belongs to each region."
            )
        if not 0 < self.threshold < 1:
            raise ConfigError(
                f"SEM_SEG_HEAD.PROB_THRESHOLD is {self.threshold}. Give a number between 0 and 1."
            )
        object.__setattr__(self, "regions", tuple(tuple(region) for region in self.regions))
        if self.ignore_value in self.allowed:
            raise ConfigError(
                f"SEM_SEG_HEAD.IGNORE_VALUE {self.ignore_value} is a label in use, one of "
                f"{sorted(self.allowed)}."
            )

    @property
    def finds_objects(self) -> bool:
        """Whether objects are made of the labels."""
        return self.target == "distance"

    @property
    def bands(self) -> int:
        """With the target "distance" the number of bands, whose channels are the first."""
        return self.num_classes - self.class_channels

    def _make_bands(self) -> None:
        bands, classes = self.bands, max(self.class_channels, 1)
        is_usable = bands >= 2 and bands * classes <= _MOST_BANDS
        if not is_usable or self.regions or self.activation != "sigmoid":
            raise ConfigError(
                "SEM_SEG_HEAD.TARGET: distance needs two or more NUM_CLASSES, which are the bands, "
                f"at most {_MOST_BANDS} bands of all classes, ACTIVATION: sigmoid and no REGIONS."
            )
        labels = range(1, bands * classes + 1)
        above = (tuple(n for n in labels if (n - 1) % bands >= band) for band in range(bands))
        of_class = (tuple(labels[c * bands :][:bands]) for c in range(self.class_channels))
        object.__setattr__(self, "regions", (*above, *of_class))

    @classmethod
    def from_config(cls, cfg) -> "SemanticLabels":
        """Read ``MODEL.SEM_SEG_HEAD`` of a config, and of ``MODEL.WATERSHED`` the classes."""
        head, classes = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.WATERSHED.NUM_CLASSES
        added = classes if head.TARGET == "distance" and classes > 1 else 0
        return cls(
            num_classes=head.NUM_CLASSES + added,
            activation=head.ACTIVATION,
            regions=head.REGIONS,
            ignore_value=head.IGNORE_VALUE,
            target=head.TARGET,
            threshold=head.PROB_THRESHOLD,
            class_channels=added,
        )

    @property
    def members(self) -> list[tuple[int, ...]]:
        """The labels that each channel stands for."""
        if self.regions:
            return list(self.regions)
        first = 0 if self.activation == "softmax" else 1
        return [(first + channel,) for channel in range(self.num_classes)]

    @property
    def allowed(self) -> set[int]:
        """All labels that there may be, but for :attr:`ignore_value`."""
        return {0, *itertools.chain(*self.members)}

    @property
    def foreground_channels(self) -> list[int]:
        """The channels that stand for a class of objects: all but the background of ``softmax``;
        with the target "distance" those of the classes, or of one class the first."""
        if self.finds_objects:
            return list(range(self.bands, self.num_classes)) or [0]
        return list(range(1 if self.activation == "softmax" else 0, self.num_classes))

    def names(self, label_names: Sequence[str]) -> list[str]:
        """Name the channels by the names of the labels 0, 1, ...; regions as "a+b". With the target
        "distance" the bands are named as the one class that is there, or "object"."""
        named = dict(enumerate(label_names))
        if self.finds_objects:
            common = label_names[1] if len(label_names) == 2 else "object"
            classes = [named.get(c + 1, str(c + 1)) for c in range(self.class_channels)]
            return [common] * self.bands + classes
        return ["+".join(named.get(label, str(label)) for label in m) for m in self.members]

    def check(self, labels: Tensor, where: str = "the labels") -> None:
        """Raise a DatasetError if a label map holds labels that are not :attr:`allowed`."""
        known = {*self.allowed, self.ignore_value}
        if not _isin(labels, known).all():
            unknown = sorted(set(torch.unique(labels).tolist()) - known)
            raise DatasetError(
                f"{where}: holds the labels {unknown[:5]}, but the model knows {sorted(known)}. "
                "Set MODEL.SEM_SEG_HEAD.NUM_CLASSES or REGIONS, or mend the label map, which holds "
                "classes, not object numbers."
            )

    def encode(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Label maps (N, H, W), or (N, D, H, W), as bool (N, C, H, W), where each channel holds,
        and bool (N, 1, H, W), the pixels that count."""
        channels = [_isin(labels, members) for members in self.members]
        valid = labels != self.ignore_value
        return torch.stack(channels, dim=1) & valid[:, None], valid[:, None]

    def decide(self, probabilities: Tensor) -> Tensor:
        """Turn probabilities (N, C, H, W) into bool (N, C, H, W): those from ``threshold`` on, or
        the likeliest."""
        if self.activation == "sigmoid":
            return probabilities >= self.threshold
        winners = probabilities.argmax(dim=1, keepdim=True)
        return torch.zeros_like(probabilities, dtype=torch.bool).scatter_(1, winners, True)

    def number(self, channels: Tensor) -> np.ndarray:
        """Number the foreground channels, bool (C, ...), from 1: int32 (...); the last is seen."""
        numbers = np.zeros(channels.shape[1:], np.int32)
        for number, channel in enumerate(self.foreground_channels, start=1):
            numbers[channels[channel].cpu().numpy()] = number
        return numbers

    def shrink(self, targets: Tensor, valid: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Max-pool what :meth:`encode` returns to a smaller spatial ``size`` (UNet#, Fig. 2).

        A block has what any of its pixels has; of exclusive channels the last. It counts only if
        all of its pixels do.
        """
        pool = {2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}[len(size)]
        size = tuple(size)
        targets = pool(targets.float(), size) > 0
        if self.activation == "softmax":
            later = targets.flip(1).cumsum(1).flip(1) - targets.int()
            targets = targets & (later == 0)
        return targets, pool((~valid).float(), size) == 0


def _isin(labels: Tensor, members: Iterable[int]) -> Tensor:
    """``torch.isin`` without a tensor to copy to the labels' device."""
    return functools.reduce(torch.logical_or, (labels == member for member in members))
