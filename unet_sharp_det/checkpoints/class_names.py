"""The names of the classes of objects that a model finds."""

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..errors import CheckpointError, ConfigError
from ..modeling.semantic_labels import PIXEL_WISE, SemanticLabels

_LONGEST = 100


def class_names(cfg: CfgNode) -> list[str]:
    """The names of the classes 0, 1, ...: of the config, of its data sets, or else numbers."""
    count = class_count(cfg)
    names = list(cfg.MODEL.CLASS_NAMES) or names_of_data(cfg)
    numbered = [f"class_{number}" for number in range(1, count + 1)]
    return names or (numbered if count > 1 else ["object"])


def names_of_data(cfg: CfgNode) -> list[str]:
    """The names that the registered data sets of a config give, if one has as many classes."""
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        if name not in MetadataCatalog.list():
            continue
        metadata = MetadataCatalog.get(name)
        names = list(metadata.get("thing_classes") or metadata.get("stuff_classes", [])[1:])
        if cfg.MODEL.META_ARCHITECTURE in PIXEL_WISE:
            labels = SemanticLabels.from_config(cfg)
            channels = labels.names(["background", *names]) if names else []
            names = [channels[channel] for channel in labels.foreground_channels if channels]
        if len(names) == class_count(cfg):
            return names
    return []


def check_class_names(names: Sequence[str], cfg: CfgNode, where: str) -> None:
    """Raise a CheckpointError if a file's names are not one short printable text for each class."""
    are_texts = isinstance(names, list | tuple) and all(
        isinstance(name, str) and 0 < len(name) <= _LONGEST and name.isprintable() for name in names
    )
    count = class_count(cfg)
    if not are_texts or len(set(names)) != count:
        raise CheckpointError(
            f"{where}: its class names are not {count} different short texts. Name them by "
            "MODEL.CLASS_NAMES, e.g. \"['nucleus']\"."
        )


def class_count(cfg: CfgNode) -> int:
    """The number of classes of objects.

    Raises:
        ConfigError: a detector is to have none.
    """
    if cfg.MODEL.META_ARCHITECTURE in PIXEL_WISE:
        return len(SemanticLabels.from_config(cfg).foreground_channels)
    count = cfg.MODEL[class_part(cfg)].NUM_CLASSES
    if count < 1:
        raise ConfigError(f"MODEL.{class_part(cfg)}.NUM_CLASSES is {count}. Give 1 or more.")
    return count


def class_part(cfg: CfgNode) -> str:
    """The part of ``MODEL`` whose ``NUM_CLASSES`` are the classes of a model's objects."""
    parts = {"RetinaNet": "RETINANET", "WatershedSegmentor": "WATERSHED"}
    return parts.get(cfg.MODEL.META_ARCHITECTURE, "ROI_HEADS")
