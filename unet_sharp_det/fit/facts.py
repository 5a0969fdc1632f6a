"""What the rules go by, facts of the data, of the start and of the machine, and what they give."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import yaml
from detectron2.config import CfgNode

from ..checkpoints.class_names import class_count


@dataclass(frozen=True)
class Machine:
    """What a training runs on; ``gib``: memory of the GPU, or of the computer without one."""

    has_gpu: bool
    gib: float

    @classmethod
    def this(cls) -> "Machine":
        """Return what this computer has."""
        if torch.cuda.is_available():
            return cls(True, torch.cuda.get_device_properties(0).total_memory / 2**30)
        return cls(False, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


@dataclass(frozen=True)
class Facts:
    """Facts of a fit.

    Attributes:
        data: the fingerprint of the data set, as :func:`.summarize` gives it.
        classes: names, in the order of their ids.
        base: the config of the model that the training starts from.
        machine: that it runs on.
        tuned: whether it starts from that model's weights.
    """

    data: Mapping
    classes: Sequence[str]
    base: CfgNode
    machine: Machine
    tuned: bool

    @property
    def kind(self) -> str:
        """``GeneralizedRCNN``, ``WatershedSegmentor`` or ``SemanticSegmentor``."""
        return self.base.MODEL.META_ARCHITECTURE

    @property
    def has_new_classes(self) -> bool:
        """Whether the data have another number of classes than the model."""
        return len(self.classes) != class_count(self.base)

    @property
    def median_diameter(self) -> float:
        """The geometric mean of the classes' medians in pixels, of 1 at least."""
        medians = [max(each["q50"], 1) for each in self.data["diameter_px"].values()]
        return math.exp(sum(map(math.log, medians)) / len(medians))

    @property
    def large_diameter(self) -> float:
        """That of which 5 % of the objects of the largest class are larger."""
        return max(1, *(each["q95"] for each in self.data["diameter_px"].values()))

    @property
    def small_diameter(self) -> float:
        """That of which 1 % of the objects of the smallest class are smaller."""
        return min(each["q01"] for each in self.data["diameter_px"].values())


class Setting(NamedTuple):
    """A key of the config, its value, and why."""

    key: str
    value: object
    reason: str


def format_settings(settings: Iterable[Setting]) -> str:
    """Return the YAML of a config in which each value has its reason beside it."""
    tree: dict = {}
    for setting in settings:
        *parents, leaf = setting.key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = setting
    head = "# Written by unet-sharp-det fit, from the data and the machine. Change what you like.\n"
    return head + '_BASE_: "base.yaml"\n' + "".join(_lines(tree, 0))


def _lines(tree: dict, depth: int):
    for key, value in tree.items():
        indent = "  " * depth
        if isinstance(value, dict):
            yield f"{indent}{key}:\n"
            yield from _lines(value, depth + 1)
        else:
            text = yaml.safe_dump(value.value, default_flow_style=True, width=10_000)
            text = text.removesuffix("...\n").strip()
            yield f"{indent}{key}: {text}  # {value.reason}\n"
