"""The evaluators of a data set, by what a model predicts."""

import os

from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluators

from ..modeling.semantic_labels import SemanticLabels
from .evaluators.coco import NucleiCOCOEvaluator
from .evaluators.instances import InstanceEvaluator
from .evaluators.semantic import SemanticEvaluator
from .evaluators.volumes import VolumeEvaluator, VolumeInstanceEvaluator
from .record import EvaluationOptions


def build_nuclei_evaluators(
    cfg: CfgNode, dataset_name: str, output_folder: str | None = None
) -> DatasetEvaluators:
    """Build the evaluators of a data set from ``cfg``.

    Args:
        cfg: MODEL.META_ARCHITECTURE "SemanticSegmentor" is evaluated by its label maps alone
            (task "sem_seg"), "PanopticFPN" by them too, "VolumeSegmentor" likewise in 3D, and if it
            learns distances by "instances" and "foreground"; instances by "bbox", and with
            MODEL.MASK_ON by "segm", "instances" and "foreground". For the options see
            :meth:`EvaluationOptions.from_config`.
        dataset_name: name of a registered data set.
        output_folder: folder for the results. None: ``inference`` in ``cfg.OUTPUT_DIR``, and in
            it a folder for each data set if DATASETS.TEST has several.
    """
    if output_folder is None:
        output_folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        if len(cfg.DATASETS.TEST) > 1:
            output_folder = os.path.join(output_folder, dataset_name)
    architecture, with_masks = cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.MASK_ON
    arguments = {"options": EvaluationOptions.from_config(cfg), "output_dir": output_folder}
    if architecture == "VolumeSegmentor":
        labels, tolerance = SemanticLabels.from_config(cfg), cfg.TEST.VOLUME.SURFACE_TOLERANCE
        evaluators = [VolumeEvaluator(dataset_name, labels, tolerance=tolerance, **arguments)]
        if labels.finds_objects:
            evaluators.append(VolumeInstanceEvaluator(dataset_name, **arguments))
        return DatasetEvaluators(evaluators)
    evaluators = []
    if architecture != "SemanticSegmentor":
        tasks = ("bbox", "segm") if with_masks else ("bbox",)
        evaluators.append(NucleiCOCOEvaluator(dataset_name, tasks=tasks, **arguments))
        if with_masks:
            evaluators.append(InstanceEvaluator(dataset_name, **arguments))
    if architecture in ("SemanticSegmentor", "PanopticFPN"):
        labels = SemanticLabels.from_config(cfg)
        if evaluators:  # One record: the instances' own.
            arguments["options"] = None
        evaluators.append(SemanticEvaluator(dataset_name, labels, **arguments))
    return DatasetEvaluators(evaluators)
