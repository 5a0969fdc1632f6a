"""Evaluators: COCO's AP for many small objects, and IoU and Dice of instances and of label maps."""

import os

from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators

from unet_sharp_det.evaluation.coco_evaluation import NucleiCOCOEvaluator
from unet_sharp_det.evaluation.foreground_evaluation import ForegroundEvaluator
from unet_sharp_det.evaluation.semantic_evaluation import SemanticEvaluator
from unet_sharp_det.semantic_labels import SemanticLabels

__all__ = [
    "ForegroundEvaluator",
    "NucleiCOCOEvaluator",
    "SemanticEvaluator",
    "build_nuclei_evaluators",
]


def build_nuclei_evaluators(
    cfg: CfgNode, dataset_name: str, output_folder: str | None = None
) -> DatasetEvaluators:
    """Build the evaluators of a data set from ``cfg``.

    Args:
        cfg: MODEL.META_ARCHITECTURE "SemanticSegmentor" is evaluated by its label maps alone,
            "PanopticFPN" by them too, by MODEL.SEM_SEG_HEAD. TEST.DETECTIONS_PER_IMAGE and
            TEST.AREA_SIDES parametrise AP; without MODEL.MASK_ON instances are evaluated by
            their boxes only.
        dataset_name: name of a registered data set.
        output_folder: folder for the results. None: ``inference`` in ``cfg.OUTPUT_DIR``, and in
            it a folder for each data set if DATASETS.TEST has several.

    Returns:
        DatasetEvaluators: with the tasks "bbox", and for a model with masks "segm" and
        "foreground"; "sem_seg" of a semantic model.
    """
    if output_folder is None:
        output_folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        if len(cfg.DATASETS.TEST) > 1:
            output_folder = os.path.join(output_folder, dataset_name)
    architecture = cfg.MODEL.META_ARCHITECTURE
    evaluators = []
    if architecture != "SemanticSegmentor":
        evaluators += _instance_evaluators(cfg, dataset_name, output_folder)
    if architecture in ("SemanticSegmentor", "PanopticFPN"):
        labels = SemanticLabels.from_config(cfg)
        evaluators.append(SemanticEvaluator(dataset_name, labels, output_dir=output_folder))
    return DatasetEvaluators(evaluators)


def _instance_evaluators(cfg: CfgNode, dataset_name: str, folder: str) -> list[DatasetEvaluator]:
    with_masks = cfg.MODEL.MASK_ON
    coco_evaluator = NucleiCOCOEvaluator(
        dataset_name,
        tasks=("bbox", "segm") if with_masks else ("bbox",),
        max_dets_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
        area_sides=cfg.TEST.AREA_SIDES,
        output_dir=folder,
    )
    if not with_masks:
        return [coco_evaluator]
    return [coco_evaluator, ForegroundEvaluator(dataset_name, output_dir=folder)]
