"""The metrics of a run: which there are, and reading what the evaluators wrote."""

from pathlib import Path

from detectron2.config import CfgNode

from unet_sharp_det.evaluation.coco.ap import metric_definitions
from unet_sharp_det.evaluation.instances.measures import FOREGROUND_MEASURES, INSTANCE_MEASURES
from unet_sharp_det.evaluation.record import (
    AP_METRICS_FILE,
    INSTANCE_METRICS_FILE,
    SEMANTIC_METRICS_FILE,
    EvaluationOptions,
)
from unet_sharp_det.files import read_json

_BOXES = ("bbox/AP",)
_INSTANCES = (
    *("instances/DSB_score", "segm/AP", "segm/AP50", *_BOXES),
    *("instances/PQ_image_mean", "instances/F1_50_image_mean"),
)
_SEMANTIC = ("sem_seg/IoU_image_mean", "sem_seg/Dice_image_mean")


def default_metrics(cfg: CfgNode) -> tuple[str, ...]:
    """The columns of the table for a model of this kind, ``<task>/<name>``."""
    if cfg.MODEL.META_ARCHITECTURE == "SemanticSegmentor":
        return _SEMANTIC
    return _INSTANCES if cfg.MODEL.MASK_ON else _BOXES


def known_metrics(cfg: CfgNode) -> list[str]:
    """All metrics that the evaluation of a model of this kind gives, ``<task>/<name>``."""
    architecture, found = cfg.MODEL.META_ARCHITECTURE, {}
    if architecture != "SemanticSegmentor":
        names = list(metric_definitions(EvaluationOptions.from_config(cfg)))
        found["bbox"] = names
        if cfg.MODEL.MASK_ON:
            found["segm"] = names
            found["instances"] = [measure.name for measure in INSTANCE_MEASURES]
            found["foreground"] = [measure.name for measure in FOREGROUND_MEASURES]
    if architecture in ("SemanticSegmentor", "PanopticFPN"):
        found["sem_seg"] = [measure.name for measure in FOREGROUND_MEASURES]
    return [f"{task}/{name}" for task, names in found.items() for name in names]


def read_metrics(folder) -> dict[str, float | None]:
    """Read ``{<task>/<name>: value}`` of an evaluation's folder; undefined values are None.

    Raises:
        UserError: a file is malformed.
    """
    folder, found = Path(folder), {}
    remedy = "Delete the folder of the file and run the experiment again, which evaluates anew."
    for name in (AP_METRICS_FILE, INSTANCE_METRICS_FILE):
        if (folder / name).is_file():
            found.update(read_json(folder / name, dict, remedy)["results"])
    path = folder / SEMANTIC_METRICS_FILE
    if path.is_file():
        found["sem_seg"] = read_json(path, dict, remedy)["metrics"]
    return {f"{task}/{name}": v for task, values in found.items() for name, v in values.items()}
