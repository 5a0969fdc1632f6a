"""The evaluators that a config asks for."""

import os

from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators

from ..modeling.semantic_labels import SemanticLabels
from .evaluators.coco import NucleiCOCOEvaluator
from .evaluators.instances import InstanceEvaluator
from .evaluators.semantic import SemanticEvaluator
from .record import EvaluationOptions


def build_nuclei_evaluators(
    cfg: CfgNode, dataset_name: str, output_folder: str | None = None
) -> DatasetEvaluators:
    """Build the evaluators of a data set from ``cfg``.

    Args:
        cfg: MODEL.META_ARCHITECTURE "SemanticSegmentor" is evaluated by its label maps alone,
            "PanopticFPN" by them too, by MODEL.SEM_SEG_HEAD. TEST.DETECTIONS_PER_IMAGE and
            TEST.AREA_SIDES parametrise AP, TEST.INSTANCES the other measures of instances;
            without MODEL.MASK_ON instances are evaluated by their boxes only.
        dataset_name: name of a registered data set.
        output_folder: folder for the results. None: ``inference`` in ``cfg.OUTPUT_DIR``, and in
            it a folder for each data set if DATASETS.TEST has several.

    Returns:
        DatasetEvaluators: with the tasks "bbox", and for a model with masks "segm", "instances"
        and "foreground"; "sem_seg" of a semantic model.
    """
    if output_folder is None:
        output_folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        if len(cfg.DATASETS.TEST) > 1:
            output_folder = os.path.join(output_folder, dataset_name)
    architecture = cfg.MODEL.META_ARCHITECTURE
    options = EvaluationOptions.from_config(cfg)
    evaluators = []
    if architecture != "SemanticSegmentor":
        evaluators += _instance_evaluators(dataset_name, cfg.MODEL.MASK_ON, options, output_folder)
    if architecture in ("SemanticSegmentor", "PanopticFPN"):
        semantic = SemanticEvaluator(
            dataset_name,
            SemanticLabels.from_config(cfg),
            options=options if not evaluators else None,  # One record: the instances' own.
            output_dir=output_folder,
        )
        evaluators.append(semantic)
    return DatasetEvaluators(evaluators)


def _instance_evaluators(
    dataset_name: str, with_masks: bool, options: EvaluationOptions, folder: str
) -> list[DatasetEvaluator]:
    coco_evaluator = NucleiCOCOEvaluator(
        dataset_name,
        tasks=("bbox", "segm") if with_masks else ("bbox",),
        max_dets_per_image=options.max_dets,
        area_sides=options.area_sides,
        output_dir=folder,
    )
    if not with_masks:
        return [coco_evaluator]
    return [coco_evaluator, InstanceEvaluator(dataset_name, options=options, output_dir=folder)]
